"""Packed files, gzip or zstd: the bytes inside, as a stream that ends a bomb.

A packed file may hold MOST_RATIO times its own size, and LEAST_BOUND whatever its size: text
packs to a third or a tenth, a bomb to a thousandth. NEXA_MAX_UNPACKED_GB sets another bound for a
file that is as it should be.
"""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from nexa.core.errors import DataError, UsageError

PACKINGS = {"gz": "gzip", "zst": "zstd"}  # a name's last suffix, and what it says
MOST_RATIO = 400
LEAST_BOUND = 64 << 20  # bytes
SETTING = "NEXA_MAX_UNPACKED_GB"
_GB = 10**9


def packing_of(path: Path) -> str | None:
    """`gzip` or `zstd` where the file's name says so, None for any other."""
    return PACKINGS.get(path.suffix.lower().removeprefix("."))


def plain_name(name: str) -> str:
    """A file's name without what its packing adds: `rows.jsonl.zst` -> `rows.jsonl`."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in PACKINGS else name


def most_unpacked(packed_bytes: int) -> int:
    """How many bytes a packed file, or one whose columns are packed, may hold.

    Raises:
        UsageError: NEXA_MAX_UNPACKED_GB is not a number above 0.
    """
    told = os.environ.get(SETTING)
    if told is None:
        return max(LEAST_BOUND, MOST_RATIO * packed_bytes)
    try:
        most = int(float(told) * _GB)
    except (ValueError, OverflowError):
        most = 0
    if most <= 0:
        raise UsageError(f"{SETTING} is a number of gigabytes", found=told, fix=f"{SETTING}=10")
    return most


def bomb(path: Path, packed_bytes: int, unpacked: str) -> DataError:
    """The error for a file that holds far more than its size."""
    return DataError(
        f"{path} unpacks to far more than a file of rows does: it is not read on",
        found=f"{packed_bytes:,} bytes hold {unpacked}",
        fix=f"if this is what it should hold, set a bound in gigabytes: {SETTING}=10",
    )


class Unpacked(io.RawIOBase):
    """What a packed file holds. It can be read again from the beginning, and nowhere else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed_bytes = path.stat().st_size
        self._most = most_unpacked(self._packed_bytes)
        self._stream = self._opened()
        self._read = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """To its beginning."""
        return True

    def tell(self) -> int:
        """Bytes read so far."""
        return self._read

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Begin again.

        Raises:
            UnsupportedOperation: any other place.
        """
        if whence != os.SEEK_SET or offset:
            raise io.UnsupportedOperation("a packed file is read from its beginning")
        self._stream.close()
        self._stream, self._read = self._opened(), 0
        return 0

    def readinto(self, buffer: Any) -> int:
        """The next bytes.

        Raises:
            DataError: more came out than such a file holds.
            OSError: the packing is broken.
        """
        count = int(self._stream.readinto(buffer))
        self._read += count
        if self._read > self._most:
            raise bomb(self._path, self._packed_bytes, f"more than {self._most:,}")
        return count

    def close(self) -> None:
        """Close the file under it."""
        self._stream.close()
        super().close()

    def _opened(self) -> Any:
        if packing_of(self._path) == "gzip":
            return gzip.open(self._path)
        return pa.input_stream(str(self._path), compression="zstd")


def unpacking(path: Path) -> IO[bytes]:
    """A packed file, buffered so that it has lines."""
    return io.BufferedReader(Unpacked(path), 1 << 18)
