"""What the emulated Hub keeps: repositories with commits, large objects, tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 1024 * 1024
# The Hub keeps large and binary files as LFS objects; these patterns stand in a new repository.
LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".parquet", ".gz", ".zst")
LFS_FROM_BYTES = 10 * MEBIBYTE
ATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES
).encode()
COMMIT_ID = re.compile(r"[0-9a-f]{40}")


class Refused(Exception):
    """An answer that is no success: a status, the Hub's own words, its error code."""

    def __init__(self, status: int, message: str, code: str = "", **fields: Any) -> None:
        self.status = status
        self.message = message
        self.code = code
        self.fields = fields
        super().__init__(message)


@dataclass(frozen=True)
class Token:
    """An access token as the Hub knows it."""

    name: str
    role: str
    state: str
    organisations: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    """Where a fine-grained token may write."""

    def may_write(self, repo_id: str) -> bool:
        owner = repo_id.partition("/")[0]
        if self.role == "fineGrained":
            return owner in self.scopes or repo_id in self.scopes
        return self.role == "write" and owner in (self.name, *self.organisations)

    def may_read(self, repo_id: str) -> bool:
        return repo_id.partition("/")[0] in (self.name, *self.organisations)


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its own bytes, or the digest of a large object."""

    size: int
    oid: str
    """git's name for the file, or for the pointer that stands for it."""
    data: bytes | None = None
    lfs: str | None = None

    @property
    def etag(self) -> str:
        return self.lfs or self.oid

    @classmethod
    def regular(cls, data: bytes) -> Entry:
        return cls(len(data), git_blob_id(data), data=data)

    @classmethod
    def large(cls, digest: str, size: int) -> Entry:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
        return cls(size, git_blob_id(pointer.encode()), lfs=digest)

    def listed(self, path: str) -> dict[str, Any]:
        """As the tree listing shows it."""
        row: dict[str, Any] = {"type": "file", "oid": self.oid, "size": self.size, "path": path}
        if self.lfs is not None:
            row["lfs"] = {"oid": self.lfs, "size": self.size, "pointerSize": 128}
        return row


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one time."""

    id: str
    title: str
    tree: Mapping[str, Entry]


@dataclass
class Repo:
    """A repository of one kind; `main` is its only branch."""

    id: str
    kind: str
    private: bool = False
    gated: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag or an id."""
        wanted = self.tags.get(revision, revision)
        for commit in reversed(self.commits):
            if wanted in ("main", commit.id) or (commit.id.startswith(wanted) and len(wanted) > 6):
                return commit
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add(self, title: str, tree: Mapping[str, Entry]) -> Commit:
        """A new commit on main."""
        told = [self.kind, self.id, str(len(self.commits)), title]
        told += [f"{path} {entry.oid}" for path, entry in sorted(tree.items())]
        commit = Commit(hashlib.sha1("\n".join(told).encode()).hexdigest(), title, dict(tree))
        self.commits.append(commit)
        return commit


class Objects:
    """Large objects by their sha256, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, oid: str) -> Path:
        return self.folder / oid

    def has(self, oid: str, size: int | None = None) -> bool:
        path = self.path(oid)
        return path.is_file() and size in (None, path.stat().st_size)

    def put(self, data: bytes) -> str:
        """Keep these bytes."""
        oid = hashlib.sha256(data).hexdigest()
        self.path(oid).write_bytes(data)
        return oid

    def take_in(self, oid: str, parts: Iterable[Path]) -> None:
        """Make an object of what was uploaded, if it is what it says."""
        aside = self.folder / f"{oid}.whole"
        digest = hashlib.sha256()
        with aside.open("wb") as whole:
            for part in parts:
                with part.open("rb") as read:
                    while chunk := read.read(MEBIBYTE):
                        digest.update(chunk)
                        whole.write(chunk)
                part.unlink()
        if digest.hexdigest() != oid:
            aside.unlink()
            raise Refused(400, "The uploaded object does not have the announced sha256")
        aside.rename(self.path(oid))


@dataclass
class Repos:
    """All repositories of the emulated Hub."""

    objects: Objects
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)

    def create(self, repo_id: str, kind: str, *, private: bool = False) -> Repo:
        if (kind, repo_id) in self.repos:
            raise Refused(409, f"You already created this {kind} repo")
        repo = self.repos[kind, repo_id] = Repo(repo_id, kind, private)
        repo.add("initial commit", {".gitattributes": Entry.regular(ATTRIBUTES)})
        return repo

    def entry(self, path: str, data: bytes) -> Entry:
        """How the Hub keeps a file of this name and content."""
        if upload_mode(path, len(data)) == "regular":
            return Entry.regular(data)
        return Entry.large(self.objects.put(data), len(data))

    def content(self, entry: Entry) -> bytes:
        """The bytes of a file."""
        if entry.data is not None:
            return entry.data
        return self.objects.path(str(entry.lfs)).read_bytes()


def upload_mode(path: str, size: int) -> str:
    """`lfs` or `regular`."""
    large = path.endswith(LFS_SUFFIXES) or size >= LFS_FROM_BYTES
    return "lfs" if large and size else "regular"


def git_blob_id(data: bytes) -> str:
    """git's name for a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
