"""Whether a store is what was put into it: every blob, record, name and recipe.

Nothing is trusted that can be read again. A record must be the one byte form of itself, carry the
digest it is named by, and have the name it claims; what it names must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError
from nexa.core.identity import canonical_json
from nexa.core.records import Artifact
from nexa.core.store import VERSION, Store

HIDDEN = "."  # names of files that were being written when their writer was stopped


@dataclass(frozen=True)
class Problem:
    """One file that is not what it should be. `place` is its path, or an address."""

    place: str
    what: str


@dataclass
class StoreCheck:
    """A store under verification. Each blob and each record is read once, whoever asks for it."""

    store: Store
    blobs: dict[str, str] = field(default_factory=dict)  # digest -> what is wrong, "" if nothing
    records: dict[str, Artifact[Any] | None] = field(default_factory=dict)
    leftovers: int = 0

    def everything(self) -> Iterator[Problem]:
        """Problems of the whole store."""
        root = self.store.root
        for kind in _folders(root / "records"):
            for path in self._files(kind):
                yield from self.record(kind.name, path.stem, path)
        for path in (path for folder in _folders(root / "blobs") for path in self._files(folder)):
            yield from self._blob(path.name, path)
        for kind in _folders(root / "names"):
            yield from self._names(kind)
        for path in self._files(root / "recipes"):
            yield from self._recipe(path)

    def artifact(self, digest: str, asked_by: str) -> Iterator[Problem]:
        """Problems of a record, its files, its name, and all that it grew from."""
        if digest in self.records:
            return
        found = sorted((self.store.root / "records").glob(f"*/{digest}.json"))
        if not found:
            yield Problem(asked_by, f"names the record {digest[:16]}, which is not in the store")
            return
        yield from self.record(found[0].parent.name, digest, found[0])
        artifact = self.records[digest]
        for above in () if artifact is None else artifact.inputs.values():
            yield from self.artifact(above, str(found[0]))

    def record(self, kind: str, digest: str, path: Path) -> Iterator[Problem]:
        """Problems of one record, its files and its name."""
        self.records[digest] = None
        try:
            artifact = self.store.read_record(kind, digest)
        except IntegrityError as error:
            yield Problem(str(path), error.found or error.what)
            return
        if artifact.kind != kind or path.read_bytes() != canonical_json(artifact.to_json()):
            yield Problem(str(path), "was changed after it was sealed")
            return
        self.records[digest] = artifact
        yield from self._label(artifact, path)
        for name, blob in artifact.files.items():
            for problem in self._blob(blob, self.store.blob(blob)):
                yield Problem(problem.place, f"{name} of {artifact.label} {problem.what}")

    # -- inside --------------------------------------------------------------------------

    def _label(self, artifact: Artifact[Any], path: Path) -> Iterator[Problem]:
        """A record's digest leaves its name out, so the name is looked up on the other side."""
        folder = self.store.root / "names" / artifact.kind / artifact.name
        pointer = folder / artifact.version
        if not VERSION.fullmatch(artifact.version) or not pointer.is_file():
            yield Problem(str(path), f"calls itself {artifact.label}, a name that is not there")
        elif pointer.read_bytes() != artifact.digest.encode():
            yield Problem(str(pointer), f"does not name the record that is {artifact.label}")

    def _blob(self, digest: str, path: Path) -> Iterator[Problem]:
        if digest not in self.blobs:
            here = path.is_file()
            whole = here and self.store.is_whole(digest)
            self.blobs[digest] = "" if whole else "is not what was sealed" if here else "is missing"
        if self.blobs[digest]:
            yield Problem(str(path), self.blobs[digest])

    def _names(self, kind: Path) -> Iterator[Problem]:
        for folder in _folders(kind):
            for path in self._files(folder):
                digest = path.read_bytes().decode(errors="replace")
                record = self.store.root / "records" / kind.name / f"{digest}.json"
                if "/" in digest or "\0" in digest or not record.is_file():
                    yield Problem(str(path), "names a record that is not in the store")

    def _recipe(self, path: Path) -> Iterator[Problem]:
        try:
            noted = self.store.read_recipe(path.name)
            artifact = noted and self.store.read_record(noted["kind"], noted["digest"])
        except IntegrityError as error:
            yield Problem(str(path), error.what)
            return
        if artifact and artifact.fingerprint != path.name:
            yield Problem(str(path), f"names {artifact.label}, which another recipe made")

    def _files(self, folder: Path) -> Iterator[Path]:
        """The files of a folder; what a stopped writer left is counted and passed over."""
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(HIDDEN):
                self.leftovers += 1
            else:
                yield path


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
