"""Whether durable storage still holds what was committed to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nexa.core.errors import StorageError
from nexa.core.identity import canonical_json
from nexa.core.store_check import HIDDEN, Problem
from nexa.core.tiers import MARKER, Tiers

RUN_STATE = "run_state/"  # mutable: steps come and go while a run is under way
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class DurableCheck:
    """Durable storage under verification; each committed folder is read once."""

    tiers: Tiers
    read: dict[str, dict[str, str]] = field(default_factory=dict)  # folder -> file -> sha256

    def everything(self) -> Iterator[Problem]:
        """Problems of every folder that has a marker; one without was never committed."""
        for folder in self._committed():
            if not folder.startswith(RUN_STATE):
                yield from self.folder(folder)

    def run_state(self) -> Iterator[Problem]:
        """Problems of the copies of run state: no fault, for resuming passes over what is torn."""
        for folder in self._committed():
            if folder.startswith(RUN_STATE):
                yield from self.folder(folder)

    def folder(self, name: str, sealed: dict[str, str] | None = None) -> Iterator[Problem]:
        """Problems of one committed folder; `sealed` is what its record says it holds."""
        if name not in self.read:
            self.read[name] = {}
            yield from self._read(name)
        committed = self.read[name]
        if sealed is not None and committed and committed != sealed:
            place = self.tiers.durable_place(f"{name}/{MARKER}")
            yield Problem(place, "does not name the files that were sealed")

    def file(self, name: str, digest: str) -> Iterator[Problem]:
        """Problems of one file outside the committed folders."""
        try:
            if self.tiers.digest(name) != digest:
                yield Problem(self.tiers.durable_place(name), "is not what was written")
        except StorageError as error:
            yield Problem(self.tiers.durable_place(name), f"is missing ({error.what})")

    def _committed(self) -> list[str]:
        parts = (name.rpartition("/") for name in self.tiers.names())
        return [folder for folder, _, file in parts if file == MARKER]

    def _read(self, name: str) -> Iterator[Problem]:
        marker = self.tiers.durable_place(f"{name}/{MARKER}")
        try:
            data = self.tiers.read(f"{name}/{MARKER}")
        except StorageError:
            yield Problem(marker, "is missing: the folder was never committed, or has lost it")
            return
        files = _files_of(data)
        if files is None:
            yield Problem(marker, "is not a marker that nexa wrote")
            return
        self.read[name] = files
        here = {path.removeprefix(f"{name}/") for path in self.tiers.names(name)} - {MARKER}
        for file, digest in files.items():
            if file not in here:
                yield Problem(self.tiers.durable_place(f"{name}/{file}"), "is missing")
            elif self.tiers.digest(f"{name}/{file}") != digest:
                place = self.tiers.durable_place(f"{name}/{file}")
                yield Problem(place, "is not what was committed")
        for file in sorted(here - set(files)):
            if not file.rpartition("/")[2].startswith(HIDDEN):
                place = self.tiers.durable_place(f"{name}/{file}")
                yield Problem(place, "is not one of the committed files")


def _files_of(data: bytes) -> dict[str, str] | None:
    """What a marker names, if it is one, in the bytes that it was written in."""
    try:
        marker: Any = json.loads(data)
        files = marker["files"]
        whole = all(DIGEST.fullmatch(digest) for digest in files.values())
        same = canonical_json({"files": files}) == data
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return files if whole and same else None
