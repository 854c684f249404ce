"""The content-addressed store: blobs by digest, records by digest, names on top.

    store/blobs/ab/abcd...        bytes, mode 0444, named by their sha256
    store/records/KIND/DIGEST.json
    store/names/KIND/NAME/vN      holds a record's digest
    store/recipes/FINGERPRINT     which record this recipe made, and how its blobs lay on the disk

Everything is written aside, flushed to the disk and renamed: a kill at any moment leaves either
the old state or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, NexaError, StorageError, nearest
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file, slug
from nexa.core.records import Artifact, B, Body, Draft

VERSION = re.compile(r"v[1-9][0-9]*")
REMAKE = "remove that file, then run the command that made it again"
SPARE_BYTES = 64 << 20  # kept free so that the last words of a run can still be written


# What the system says when there is no more room: full disk, quota, file size limit.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UnknownArtifact(NexaError, KeyError):
    """No artifact has this name or digest."""


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that it is either absent, old or whole: aside, fsync, rename.

    Raises:
        StorageError: no space or no permission; the old file is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(mode)
        Path(aside).replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        Path(aside).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to the disk: a rename is lost with the power without it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(path: Path, error: OSError) -> StorageError:
    """An OSError as a sentence: which file, why, what to do."""
    what = f"cannot write {path}: {error.strerror or error}"
    if error.errno in NO_ROOM:
        return StorageError(
            what,
            found=f"{free_bytes(path) / 1e9:.2f} GB free there",
            fix="free some space, then run the same command again",
        )
    return StorageError(what, fix="make the folder writable or choose another one")


def free_bytes(path: Path) -> int:
    """Bytes free on the file system that holds `path` or its nearest existing parent."""
    return shutil.disk_usage(nearest_existing(path)).free


def nearest_existing(path: Path) -> Path:
    """`path`, or the nearest of its parents that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def require_space(path: Path, size_bytes: int, purpose: str) -> None:
    """Refuse to start what cannot end.

    Raises:
        StorageError: less than `size_bytes` and a spare 64 MB are free.
    """
    free = free_bytes(path)
    if free < size_bytes + SPARE_BYTES:
        raise StorageError(
            f"not enough disk space for {purpose}",
            found=f"{free / 1e9:.2f} GB free in {path}, {size_bytes / 1e9:.2f} GB needed",
            fix="free some space, or move the project with NEXA_SCRATCH and NEXA_DURABLE",
        )


class Store:
    """Blobs, records and names under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- blobs ---------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """Where the bytes with this digest are (or would be)."""
        return self.root / "blobs" / digest[:2] / digest

    def put(
        self, content: bytes | Path, *, own: Path | None = None, digest: str | None = None
    ) -> str:
        """Keep bytes or a file; returns the sha256. Files below `own` are moved in: see `Draft`.

        `digest` is that of a file below `own`, where it was taken already.
        """
        mine = own is not None and isinstance(content, Path) and content.is_relative_to(own)
        if isinstance(content, bytes):
            digest = sha256_bytes(content)
        elif digest is None or not mine:
            digest = sha256_file(content)
        target = self.blob(digest)
        # Read again: a blob that was damaged is mended by whoever makes it once more.
        if self.is_whole(digest):
            return digest
        if isinstance(content, bytes):
            write_atomic(target, content, mode=0o444)
            return digest
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            place_file(content, target, move=mine)
        except OSError as error:
            raise storage_error(target, error) from error
        return digest

    def path(self, artifact: Artifact[Any], file: str) -> Path:
        """The blob of one of an artifact's files.

        Raises:
            UnknownArtifact: the artifact has no such file.
            IntegrityError: the record names it but the bytes are gone.
        """
        if file not in artifact.files:
            raise UnknownArtifact(
                f"{artifact.label} has no file {file!r}", found=", ".join(sorted(artifact.files))
            )
        blob = self.blob(artifact.files[file])
        if not blob.exists():
            raise IntegrityError(
                f"{artifact.label}: the bytes of {file} are gone", found=f"no {blob}"
            )
        return blob

    def checkout(self, artifact: Artifact[Any], folder: Path) -> Path:
        """Give an artifact's files their readable names in `folder`: hard links where possible."""
        for name in artifact.files:
            link_or_copy(self.path(artifact, name), folder / name)
        return folder

    # -- records -------------------------------------------------------------------------

    def seal(
        self,
        draft: Draft[B],
        *,
        step: Mapping[str, Any],
        fingerprint: str,
        inputs: Mapping[str, str],
    ) -> Artifact[B]:
        """Turn a draft into an artifact: keep its files, its record, its name and its recipe.

        A record whose digest is already there under this name keeps its version. A dataset with
        the inputs and the content of a version that is there is that version: it is returned, and
        the recipe is known to make it from now on.
        """
        size = sum(
            len(c) if isinstance(c, bytes) else c.stat().st_size for c in draft.files.values()
        )
        require_space(self.root, size, f"{draft.kind} {draft.name}")
        files = {
            name: self.put(content, own=draft.own, digest=draft.digests.get(name))
            for name, content in sorted(draft.files.items())
        }
        name = slug(draft.name)
        unnamed = Artifact(
            draft.kind, name, "", draft.body, files, dict(inputs), dict(step), fingerprint
        )
        with self._locked():
            if (twin := self._twin(unnamed)) is not None:
                emit("note", text=f"{twin.label} has these very rows: no new version is made")
                write_atomic(self.root / "recipes" / fingerprint, self._recipe(twin))
                return twin
            version = self._version_of(unnamed) or self._next_version(draft.kind, name)
            sealed = replace(unnamed, version=version)
            record = canonical_json(sealed.to_json())
            write_atomic(self._record_path(sealed.kind, sealed.digest), record)
            write_atomic(self._name_path(sealed), sealed.digest.encode())
            write_atomic(self.root / "recipes" / fingerprint, self._recipe(sealed))
        return sealed

    def made_by(self, fingerprint: str) -> Artifact[Any] | None:
        """What this recipe made before, if its record and all its bytes are still what they were.

        A blob whose size and time are those of its sealing is taken as it is; any other is read
        again. What was changed or is gone is told in a note, and the caller makes it again.
        """
        try:
            noted = self.read_recipe(fingerprint)
            if noted is None:
                return None
            artifact = self.read_record(noted["kind"], noted["digest"])
        except IntegrityError as error:
            emit("note", text=f"what an equal recipe made is not reused: {error.what}")
            return None
        blobs: dict[str, Any] = noted["blobs"]
        for file, digest in artifact.files.items():
            if self._stamp(digest) != blobs.get(digest) and not self.is_whole(digest):
                what = f"{artifact.label}: {file} was changed or is gone"
                emit("note", text=f"{what}: not reused, made again")
                return None
        return artifact

    def by_digest(self, digest: str) -> Artifact[Any]:
        """The artifact whose record has this digest.

        Raises:
            UnknownArtifact: there is none.
        """
        found = sorted((self.root / "records").glob(f"*/{digest}*.json"))
        if len(found) != 1:
            raise UnknownArtifact(
                f"{len(found) or 'no'} records begin with the digest {digest[:16]}"
            )
        return self._read(found[0])

    def get(self, kind: str, reference: str) -> Artifact[Any]:
        """The artifact named `name@vN`, or `name` for its newest version.

        Raises:
            UnknownArtifact: no such name or version; says the nearest one.
        """
        pointer = self.named(kind, reference)
        record = self.read_record(kind, pointer.read_bytes().decode(errors="replace"))
        # Equal contents under two names share one record; the name asked for is the one given.
        return replace(record, name=pointer.parent.name, version=pointer.name)

    def named(self, kind: str, reference: str) -> Path:
        """The file that holds the digest of `name@vN`, or of a name's newest version.

        Raises:
            UnknownArtifact: no such name or version; says the nearest one.
        """
        name, _, version = reference.removeprefix(f"{kind}/").partition("@")
        versions = self.versions(kind, name)
        if not versions:
            near = nearest(name, self.names(kind))
            raise UnknownArtifact(
                f"there is no {kind} named {name!r}",
                found=", ".join(self.names(kind)) or f"no {kind} at all",
                fix=f"{kind}/{near}" if near else None,
            )
        if version and version not in versions:
            raise UnknownArtifact(
                f"{kind}/{name} has no version {version}", found=", ".join(versions)
            )
        return self.root / "names" / kind / name / (version or versions[-1])

    def names(self, kind: str) -> list[str]:
        """Every name of a kind."""
        folder = self.root / "names" / kind
        return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []

    def versions(self, kind: str, name: str) -> list[str]:
        """A name's versions, oldest first."""
        folder = self.root / "names" / kind / name
        if not folder.is_dir():
            return []
        found = (path.name for path in folder.iterdir() if VERSION.fullmatch(path.name))
        return sorted(found, key=lambda version: int(version[1:]))

    def verify(self, artifact: Artifact[Any]) -> list[str]:
        """What is wrong with an artifact: a line for each missing or changed file."""
        problems = []
        for name, digest in artifact.files.items():
            blob = self.blob(digest)
            if not blob.exists():
                problems.append(f"{artifact.label}: {name} is missing")
            elif sha256_file(blob) != digest:
                problems.append(f"{artifact.label}: {name} is not what was sealed")
        return problems

    def is_whole(self, digest: str) -> bool:
        """Whether the bytes with this digest are here and are those."""
        blob = self.blob(digest)
        return blob.is_file() and sha256_file(blob) == digest

    def read_record(self, kind: str, digest: str) -> Artifact[Any]:
        """The record with this whole digest.

        Raises:
            IntegrityError: it is gone, or is not what was sealed.
        """
        return self._read(self._record_path(kind, digest))

    def read_recipe(self, fingerprint: str) -> dict[str, Any] | None:
        """What is noted of a recipe: `kind` and `digest` of its record, `blobs` with size and time.

        Raises:
            IntegrityError: the note is not what was written.
        """
        path = self.root / "recipes" / fingerprint
        if not path.is_file():
            return None
        data, _, digest = path.read_bytes().rpartition(b"\n")
        if sha256_bytes(data).encode() != digest:
            raise IntegrityError(f"the recipe {path} was changed after it was written", fix=REMAKE)
        noted: dict[str, Any] = json.loads(data)
        return noted

    # -- inside --------------------------------------------------------------------------

    def _recipe(self, artifact: Artifact[Any]) -> bytes:
        """What the file of a recipe holds: which record, and how its blobs lay on the disk."""
        blobs = {digest: self._stamp(digest) for digest in sorted(set(artifact.files.values()))}
        noted = {"kind": artifact.kind, "digest": artifact.digest, "blobs": blobs}
        data = canonical_json(noted)
        return data + b"\n" + sha256_bytes(data).encode()

    def _stamp(self, digest: str) -> list[Any] | None:
        """A blob's size in bytes and its time of change in ns (as text: beyond JSON's numbers)."""
        try:
            found = self.blob(digest).stat()
        except OSError:
            return None
        return [found.st_size, str(found.st_mtime_ns)]

    def _record_path(self, kind: str, digest: str) -> Path:
        return self.root / "records" / kind / f"{digest}.json"

    def _name_path(self, artifact: Artifact[Any]) -> Path:
        return self.root / "names" / artifact.kind / artifact.name / artifact.version

    def _read(self, path: Path) -> Artifact[Any]:
        try:
            data = path.read_bytes()
            artifact = Artifact.from_json(json.loads(data))
        except (OSError, ValueError) as error:
            found = error.found if isinstance(error, IntegrityError) else str(error)
            raise IntegrityError(
                f"cannot read the record {path}", found=found, fix=REMAKE
            ) from error
        if artifact.digest != path.stem:
            raise IntegrityError(
                f"the record {path} was changed after it was sealed",
                found=f"its digest is now {artifact.digest[:16]}",
                fix=REMAKE,
            )
        return artifact

    def _version_of(self, artifact: Artifact[Body]) -> str | None:
        for version in self.versions(artifact.kind, artifact.name):
            pointer = self.root / "names" / artifact.kind / artifact.name / version
            if pointer.read_text() == artifact.digest:
                return version
        return None

    def _twin(self, artifact: Artifact[B]) -> Artifact[B] | None:
        """A whole version of a dataset's name that has the same inputs and content."""
        content = getattr(artifact.body, "content_sha256", None)
        for version in self.versions(artifact.kind, artifact.name) if content else ():
            other = self.get(artifact.kind, f"{artifact.name}@{version}")
            same = other.body.content_sha256 == content and other.inputs == artifact.inputs
            if same and other.digest != artifact.digest and not self.verify(other):
                return other
        return None

    def _next_version(self, kind: str, name: str) -> str:
        versions = self.versions(kind, name)
        # From the newest, not from their number: where one was removed, no other is overwritten.
        return f"v{int(versions[-1][1:]) + 1}" if versions else "v1"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.root / ".lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        except OSError as error:
            raise storage_error(path, error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def place_file(source: Path, target: Path, *, move: bool = False) -> None:
    """Bring a file into the store under its final name, read-only, whole or not at all.

    It is copied, for the caller may go on writing to a file of its own; with `move` it is linked
    where the file system allows, and belongs to the store from then on.
    """
    aside = _aside(target)
    try:
        if not (move and _linked(source, aside)):
            shutil.copyfile(source, aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.chmod(0o444)
        aside.replace(target)
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written has no leftover
            aside.unlink()


def _linked(source: Path, target: Path) -> bool:
    """Whether a hard link could be made; never of a file that has another name already."""
    if source.stat().st_nlink > 1:
        return False
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same bytes as `source`: a hard link, or a copy across file systems.

    Raises:
        StorageError: no space or no permission.
    """
    aside = _aside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, aside)
        except OSError:
            shutil.copyfile(source, aside)
        aside.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written has no leftover
            aside.unlink()


def _aside(target: Path) -> Path:
    """A hidden name beside `target` that nothing has had before.

    Never made from the process id: those come again, and a killed run's leftover may be a hard
    link into the store, which writing to it would change.
    """
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}")
