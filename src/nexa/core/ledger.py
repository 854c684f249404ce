"""The digests of closed manifests: `runs/manifests/SHA256SUMS`, in git beside them.

A manifest is evidence once its run has ended. Its digest is noted when it is closed, and again
when a publication is added to it; a manifest that is under way has none. The file has the form
that `sha256sum --check` reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from nexa.core.errors import IntegrityError
from nexa.core.identity import sha256_bytes, sha256_file
from nexa.core.store import storage_error, write_atomic

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([^/\s]+\.json)")
RESTORE = "take it from git or from durable storage: manifests/<run_id>.json"


def write_noted(path: Path, data: bytes, *, closed: bool) -> None:
    """Write a manifest, and note its digest if it is closed.

    Raises:
        IntegrityError: the closed manifest that would be replaced was changed by another hand.
        StorageError: it cannot be written.
    """
    with _locked(path.parent):
        require_noted(path)
        write_atomic(path, data)
        sums = read_sums(path.parent)
        before = sums.pop(path.name, None)
        if closed:
            sums[path.name] = sha256_bytes(data)
        if sums.get(path.name) != before:
            write_atomic(path.parent / SUMS, _text(sums))


def require_noted(path: Path) -> None:
    """Refuse a manifest that is not the one whose digest was noted.

    Raises:
        IntegrityError: it was changed after it was closed, or SHA256SUMS itself was.
    """
    noted = read_sums(path.parent).get(path.name)
    if noted is not None and (not path.is_file() or sha256_file(path) != noted):
        raise IntegrityError(
            f"{path} was changed after its run ended",
            found=f"its digest in {SUMS} is {noted[:16]}",
            fix=RESTORE,
        )


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> digest of every closed manifest; empty where nothing was closed yet.

    Raises:
        IntegrityError: a line is not a digest and a name, or a name comes twice.
    """
    path = folder / SUMS
    data = path.read_bytes().removesuffix(b"\n") if path.is_file() else b""
    sums: dict[str, str] = {}
    # By "\n" alone, as it is written: nothing else ends a line.
    for number, line in enumerate(data.split(b"\n") if data else (), 1):
        found = LINE.fullmatch(line.decode(errors="replace"))
        if found is None or found[2] in sums:
            raise IntegrityError(
                f"{path}: line {number} is not a digest and a manifest of its own",
                found=repr(line[:80]),
                fix="take the file from git",
            )
        sums[found[2]] = found[1]
    return sums


def _text(sums: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock is the folder's own, so no lock file is left in git."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
