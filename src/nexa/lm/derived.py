"""Model folders that Nexa made out of other files, kept whole in the user's cache.

    $NEXA_CACHE/models/KEY/        the folder; `nexa.json` in it is the marker, written last
    $NEXA_CACHE/models/.KEY.lock   held while it is being made
    $NEXA_CACHE/models/.KEY.*/     being made, or left by a kill (cleared by the next one)

A folder with a marker is whole: it is made aside and renamed, so a kill leaves nothing torn.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError
from nexa.core.identity import sha256_file
from nexa.core.store import require_space, storage_error, write_atomic

MARKER = "nexa.json"


def cache_root() -> Path:
    """The user's cache: `$NEXA_CACHE`, or `~/.cache/nexa`."""
    told = os.environ.get("NEXA_CACHE")
    return Path(told).expanduser() if told else Path.home() / ".cache" / "nexa"


def place(key: str) -> Path:
    """Where the derived folder with this key is (or would be)."""
    return cache_root() / "models" / key


def find(key: str) -> Path | None:
    """The derived folder with this key, if it was made."""
    folder = place(key)
    return folder if (folder / MARKER).is_file() else None


def keep(
    key: str, make: Callable[[Path], Mapping[str, Any]], *, size_bytes: int, purpose: str
) -> Path:
    """The derived folder with this key; when it is not there, `make` fills it.

    `make` is given an empty folder and returns what the marker shall say beside the files'
    digests. `size_bytes` is the most that it will take on the disk while it works.

    Raises:
        StorageError: not enough space, or no permission.
    """
    folder = place(key)
    with _alone(folder):
        found = find(key)
        if found is not None:
            return found
        _clear_leftovers(folder)
        require_space(folder.parent, size_bytes, purpose)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}."))
        try:
            about = make(aside)
            _seal(aside, about)
            aside.replace(folder)
        except OSError as error:
            # Every error of Nexa's own that is an OSError already says what to do.
            raise error if hasattr(error, "exit_code") else storage_error(folder, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def about(folder: Path) -> dict[str, Any]:
    """What the marker of a derived folder says; empty for any other folder.

    Raises:
        IntegrityError: the marker cannot be read.
    """
    marker = folder / MARKER
    if not marker.is_file() or folder.parent != cache_root() / "models":
        return {}
    try:
        told = json.loads(marker.read_bytes())
    except ValueError as error:
        raise IntegrityError(
            f"cannot read {marker}", found=str(error), fix=f"delete {folder}: it is made again"
        ) from error
    return dict(told)


def _seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Flush the files to the disk, make them read-only and write the marker."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(0o444)
    marker = {**about, "files": {path.name: sha256_file(path) for path in files}}
    write_atomic(folder / MARKER, json.dumps(marker, indent=2, sort_keys=True).encode() + b"\n")
    folder.chmod(0o755)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; a killed process lets go of it by itself."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise storage_error(folder, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left; whoever holds the lock is the only one at work."""
    for left in folder.parent.glob(f".{folder.name}.*/"):
        shutil.rmtree(left, ignore_errors=True)
    if folder.exists():  # without a marker, so somebody deleted a part of it
        shutil.rmtree(folder, ignore_errors=True)
