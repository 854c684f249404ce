"""The three tiers of storage, and what may live where.

| tier    | where                                   | what                                  |
|---------|-----------------------------------------|---------------------------------------|
| scratch | NEXA_SCRATCH, else .nexa/scratch        | work under way; emptied after a commit |
| durable | NEXA_DURABLE (path or fsspec URI), else .nexa/durable | what must outlive the machine |
| ledger  | runs/ in the project                    | small JSON and YAML, kept in git      |

The content-addressed store (`core.store`) is at .nexa/store; durable gives its blobs readable
names: `datasets/<id>/<version>/`, `checkpoints/<run_id>/`, `manifests/<run_id>.json`,
`evals/reports/leaderboard_<date>.parquet`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from nexa.core.errors import IntegrityError, MissingExtra, StorageError, UsageError
from nexa.core.identity import canonical_json, sha256_file
from nexa.core.store import (
    Store,
    link_or_copy,
    nearest_existing,
    require_space,
    storage_error,
    write_atomic,
)

MARKER = "COMMITTED.json"


@dataclass(frozen=True)
class Tiers:
    """Where one project keeps what."""

    root: Path
    scratch: Path
    durable: str

    @classmethod
    def of(cls, root: Path, environment: Mapping[str, str] = os.environ) -> Tiers:
        """The tiers of the project in `root`, moved by NEXA_SCRATCH and NEXA_DURABLE."""
        root = root.resolve()
        inner = root / ".nexa"
        return cls(
            root=root,
            scratch=Path(environment.get("NEXA_SCRATCH") or inner / "scratch").absolute(),
            durable=environment.get("NEXA_DURABLE") or str(inner / "durable"),
        )

    @property
    def store(self) -> Store:
        """The project's content-addressed store."""
        return Store(self.root / ".nexa" / "store")

    @property
    def rendered(self) -> Path:
        """Rows as token ids, to start sooner; may be removed at any time."""
        return self.root / ".nexa" / "cache" / "rendered"

    @property
    def requests(self) -> Path:
        """What teachers and judges answered, a journal a job: it was paid for, so it stays."""
        return self.root / ".nexa" / "requests"

    @property
    def hub(self) -> Path:
        """The local folder that stands in for a Hub."""
        return self.root / ".nexa" / "hub"

    @property
    def manifests(self) -> Path:
        """The ledger's run manifests."""
        return self.root / "runs" / "manifests"

    @property
    def logs(self) -> Path:
        """The ledger's event logs."""
        return self.root / "runs" / "logs"

    @property
    def durable_is_local(self) -> bool:
        """Whether durable storage is a folder of this machine."""
        return urlsplit(self.durable).scheme in ("", "file")

    def durable_place(self, name: str) -> str:
        """The address of `name` in durable storage, as a person would type it."""
        if self.durable_is_local:
            return str(self._durable_folder() / name)
        return f"{self.durable.rstrip('/')}/{name}"

    def new_scratch(self, purpose: str) -> Path:
        """A new empty folder in scratch, for one piece of work."""
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=self.scratch, prefix=f"{purpose}-"))
        except OSError as error:
            raise storage_error(self.scratch, error) from error

    def commit(self, files: Mapping[str, Path], name: str) -> str:
        """Put files under `name` in durable storage; the marker with their digests goes last.

        A folder without its marker was never committed. Returns the folder's address.

        Raises:
            StorageError: no space, no permission, or what arrived is not what was sent.
        """
        digests = {file: sha256_file(source) for file, source in sorted(files.items())}
        self._remove(f"{name}/{MARKER}")  # an older commit is none while its files are replaced
        for file, source in files.items():
            self._put(source, f"{name}/{file}", digests[file])
        self.write(canonical_json({"files": digests}), f"{name}/{MARKER}")
        return self.durable_place(name)

    def write(self, data: bytes, name: str) -> str:
        """Put bytes under `name` in durable storage, whole or not at all; returns its address."""
        if self.durable_is_local:
            write_atomic(self._durable_folder() / name, data)
        else:
            with self._remote(name) as (system, place):
                system.pipe_file(place, data)
        return self.durable_place(name)

    def update(self, name: str, change: Callable[[Path], object]) -> str:
        """Let `change` rewrite the file `name` of durable storage; returns its address.

        A local file is changed where it is; a remote one is fetched, changed and put back.
        """
        if self.durable_is_local:
            target = self._durable_folder() / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(target, error) from error
            change(target)
            return str(target)
        work = self.new_scratch("update") / Path(name).name
        try:
            with self._remote(name) as (system, place):
                if system.exists(place):
                    system.get_file(place, str(work))
            change(work)
            with self._remote(name) as (system, place):
                system.put_file(str(work), place)
        finally:
            shutil.rmtree(work.parent, ignore_errors=True)
        return self.durable_place(name)

    def names(self, folder: str = "") -> list[str]:
        """The files below a folder of durable storage, sorted; none where it is not there."""
        if self.durable_is_local:
            root = self._durable_folder()
            found = (path for path in (root / folder).rglob("*") if path.is_file())
            return sorted(str(path.relative_to(root)) for path in found)
        with self._remote(folder) as (system, place):
            base = place.removesuffix(folder).rstrip("/")
            inside = system.find(place) if system.exists(place) else []
        return sorted(str(path).removeprefix(base).lstrip("/") for path in inside)

    def read(self, name: str) -> bytes:
        """The bytes of `name` in durable storage; small files only.

        Raises:
            StorageError: it is not there, or cannot be read.
        """
        with self._reading(name) as file:
            data: bytes = file.read()
        return data

    def digest(self, name: str) -> str:
        """sha256 of `name` in durable storage, read in pieces; raises as `read`."""
        with self._reading(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        if not self.durable_is_local:
            with self._remote(name) as (system, place), system.open(place, "rb") as file:
                yield file
            return
        path = self._durable_folder() / name
        try:
            with path.open("rb") as file:
                yield file
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error

    def committed(self, name: str) -> list[str]:
        """The names of the committed folders in the folder `name` of durable storage, sorted."""
        marker = f"/{MARKER}"
        found = (file.removesuffix(marker) for file in self.names(name) if file.endswith(marker))
        return sorted(place.rsplit("/", 1)[-1] for place in found)

    def fetch(self, name: str, folder: Path) -> Path:
        """Bring the files of a commit into `folder`, each checked against the marker.

        Raises:
            StorageError: durable storage cannot be read.
            IntegrityError: a file is not what was committed; names it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with self._remote(name) as (system, place):
            files = json.loads(system.cat_file(f"{place}/{MARKER}"))["files"]
            for file, digest in files.items():
                system.get_file(f"{place}/{file}", str(folder / file))
                if sha256_file(folder / file) != digest:
                    raise IntegrityError(
                        f"{self.durable_place(name)}: {file} is not what was committed"
                    )
        return folder

    def remove(self, name: str) -> None:
        """Remove a committed folder from durable storage: its marker first."""
        self._remove(f"{name}/{MARKER}")
        with self._remote(name) as (system, place):
            if system.exists(place):
                system.rm(place, recursive=True)

    def _put(self, source: Path, name: str, digest: str) -> None:
        if self.durable_is_local:
            target = self._durable_folder() / name
            here, there = source.stat(), nearest_existing(target).stat()
            copied = 0 if here.st_dev == there.st_dev else here.st_size  # else it is only linked
            require_space(target, copied, f"{name} in durable storage")
            link_or_copy(source, target)
            return
        with self._remote(name) as (system, place):
            system.put_file(str(source), place)
            arrived = system.size(place)
        if arrived != source.stat().st_size:
            raise StorageError(
                f"{name} did not arrive whole in durable storage",
                found=f"{arrived} of {source.stat().st_size} bytes, sha256 {digest}",
                fix="run the same command again",
            )

    def _remove(self, name: str) -> None:
        if self.durable_is_local:
            try:
                (self._durable_folder() / name).unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(self._durable_folder() / name, error) from error
            return
        with self._remote(name) as (system, place):
            if system.exists(place):
                system.rm_file(place)

    def _durable_folder(self) -> Path:
        return Path(self.durable.removeprefix("file://")).absolute()

    @contextlib.contextmanager
    def _remote(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system of NEXA_DURABLE, and the path of `name` in it."""
        try:
            system, base = fsspec.core.url_to_fs(self.durable)
        except ImportError as error:
            raise MissingExtra(
                f"NEXA_DURABLE={self.durable} needs a package that is not installed",
                found=str(error),
            ) from error
        except ValueError as error:
            raise UsageError(
                f"NEXA_DURABLE={self.durable} is neither a folder nor an address that fsspec knows",
                found=str(error),
            ) from error
        try:
            yield system, f"{base.rstrip('/')}/{name}"
        except OSError as error:
            raise StorageError(
                f"cannot reach {self.durable_place(name)}: {error.strerror or error}",
                fix="see that the address is right and reachable, then run the same command again",
            ) from error
