"""A local folder as a Hub: `<root>/<owner>/<name>/` holds what a repository would.

A publication is written aside, flushed and swapped in by rename; what was there before is kept
until the new one stands. The same content again changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from nexa.core.errors import GateError, StorageError
from nexa.core.events import emit
from nexa.core.identity import CHUNK_BYTES, sha256_bytes, sha256_file
from nexa.core.store import require_space, storage_error, sync_folder
from nexa.publish.hub import Placed, require_repo_name

OWN_MARK = Path("nexa") / "ROOT"


class HubFolder:
    """Repositories under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def location(self, repo: str) -> str:
        """The folder of a repository.

        Raises:
            UsageError: the name is not `owner/name`.
        """
        return str(self._folder(repo))

    def fetch(self, repo: str, folder: Path) -> Path | None:
        """The repository where it lies: nothing is copied into `folder`; None if there is none."""
        there = self._folder(repo)
        return there if there.is_dir() else None

    def publish(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        private: bool = False,
        allow_foreign: bool = False,
    ) -> Placed:
        """Make the repository hold exactly `files` (path inside it -> content).

        A folder knows no private repositories: asked for one, it says so. It has no history either,
        so that files of somebody else's never go, whatever `allow_foreign` says.

        Raises:
            UsageError: the name is not `owner/name`.
            GateError: the folder holds something that nexa did not publish.
            StorageError: no space or no permission; the old publication is untouched.
        """
        target = self._folder(repo)
        if private:
            text = "a folder has no private repositories: whoever may read it may read this"
            emit("note", text=text)
        try:
            with self._locked(target):
                self._recover(target)
                if _holds(target, files):
                    return Placed(str(target), changed=False)
                _refuse_foreign(target)
                self._swap_in(target, files)
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(target, error) from error
        return Placed(str(target), changed=True)

    def _folder(self, repo: str) -> Path:
        return self.root / require_repo_name(repo)

    def _swap_in(self, target: Path, files: Mapping[str, bytes | Path]) -> None:
        size = sum(len(c) if isinstance(c, bytes) else c.stat().st_size for c in files.values())
        require_space(target.parent, size, f"the publication {target}")
        aside, previous = _aside(target), _previous(target)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            for name, content in files.items():
                _write(aside / name, content)
            if target.exists():
                target.rename(previous)
            aside.rename(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self._recover(target)

    def _recover(self, target: Path) -> None:
        """After a kill between the two renames the previous publication comes back."""
        previous = _previous(target)
        if previous.exists():
            if target.exists():
                shutil.rmtree(previous)
            else:
                previous.rename(target)

    @contextlib.contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def folder_files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its path inside it; links are left as they are."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _holds(target: Path, files: Mapping[str, bytes | Path]) -> bool:
    there = folder_files(target) if target.is_dir() else {}
    if set(there) != set(files) or any(path.is_symlink() for path in there.values()):
        return False
    return all(_digest(content) == sha256_file(there[name]) for name, content in files.items())


def _digest(content: bytes | Path) -> str:
    return sha256_bytes(content) if isinstance(content, bytes) else sha256_file(content)


def _refuse_foreign(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise GateError(f"{target} is not a folder", fix="remove it, or choose another --repo")
    if target.is_dir() and any(target.iterdir()) and not (target / OWN_MARK).is_file():
        raise GateError(
            f"{target} holds files that nexa did not publish",
            found=", ".join(sorted(path.name for path in target.iterdir())[:5]),
            fix="choose another --repo, or empty the folder",
        )


def _write(path: Path, content: bytes | Path) -> None:
    """A copy, never a link: whoever edits a published file must not reach the store."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
        file.flush()
        os.fsync(file.fileno())
