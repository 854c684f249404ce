"""Opening a data file: packed or plain, what it is by its first bytes, and its lines."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import mmap
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nexa.core import values
from nexa.core.errors import DataError
from nexa.data.loaders.unpacking import packing_of, unpacking

HEAD_BYTES = 4096
BOM = b"\xef\xbb\xbf"

# How other things begin; each with what to do about it.
_SIGNATURES = (
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {name} > utf8-{name}"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {name} > utf8-{name}"),
    (b"\x1f\x8b", "gzip", "mv {name} {name}.gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "mv {name} {name}.zst"),
    (b"BZh", "bzip2", "bunzip2 {name}"),
    (b"\xfd7zXZ", "xz", "unxz {name}"),
    (b"PK\x03\x04", "a zip archive", "unzip {name}"),
    (b"PAR1", "Parquet", "mv {name} {stem}.parquet"),
    (b"ARROW1", "Arrow", "mv {name} {stem}.arrow"),
    (b"%PDF-", "PDF", "mv {name} {stem}.pdf"),
)


@dataclass(frozen=True)
class TextLine:
    """A line of a file without its end, cut where it is too long; the digest is of all of it."""

    number: int
    raw: bytes
    sha256: str

    @property
    def is_too_long(self) -> bool:
        """Whether some of it was passed over."""
        return len(self.raw) > values.MAX_ROW_BYTES


@contextlib.contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes; those inside, if its name ends in .gz or .zst.

    Raises:
        DataError: it cannot be read, is broken, or unpacks to far more than rows do.
    """
    packing = packing_of(path)
    try:
        with unpacking(path) if packing else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken(path, str(packing), error) from error
    except OSError as error:
        if packing and error.errno is None:  # pyarrow's own, about the bytes
            raise _broken(path, packing, error) from error
        raise DataError(f"cannot read {path}", found=error.strerror or str(error)) from error


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that can be read at any place; a packed one is unpacked into one without a name.

    Raises:
        DataError: as `reading`.
    """
    with reading(path) as file:
        if packing_of(path) is None:
            yield file
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(file, unpacked)
            unpacked.flush()
            unpacked.seek(0)
            yield unpacked


def mapped(path: Path) -> bytes | mmap.mmap:
    """A whole file as bytes that stay on the disk.

    Raises:
        DataError: as `reading`.
    """
    with whole(path) as file:
        size = file.seek(0, 2)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def check_head(head: bytes, path: Path, what: str) -> None:
    """Refuse a file that is no text by its first bytes.

    Raises:
        DataError: says what it is instead, and what to do about it.
    """
    for signature, is_, fix in _SIGNATURES:
        if head.startswith(signature):
            command = fix.format(name=path.name, stem=path.stem)
            raise DataError(f"{path} is not {what}", found=is_, fix=command)
    if b"\0" in head:
        raise DataError(
            f"{path} is not {what}",
            found=f"a binary file: a zero byte at {head.index(0)}",
            fix="give a text file in UTF-8",
        )


def empty(path: Path, *, found: str | None = None) -> DataError:
    """The error for a file without rows."""
    return DataError(f"{path} is empty", found=found, fix="give a file with at least one row")


def text_lines(file: IO[bytes], first: int = 1) -> Iterator[TextLine]:
    """Every line, by its number from 1; a byte order mark and the lines' ends are taken off.

    `first` is the number of the line at which the file stands.
    """
    number = first - 1
    limit = values.MAX_ROW_BYTES + 1
    while raw := file.readline(limit):
        number += 1
        line = raw.removeprefix(BOM) if number == 1 else raw
        line = line.removesuffix(b"\n").removesuffix(b"\r") if raw.endswith(b"\n") else line
        sha256 = hashlib.sha256(line)
        while len(raw) == limit and not raw.endswith(b"\n"):
            raw = file.readline(limit)  # the rest of it is passed over, but for its digest
            sha256.update(raw.removesuffix(b"\n"))
        yield TextLine(number, line, sha256.hexdigest())


def _broken(path: Path, packing: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is broken as {packing}", found=str(error), fix="fetch or write the file again"
    )
