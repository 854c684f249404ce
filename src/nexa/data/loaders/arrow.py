"""Arrow: its files and streams; Feather and the caches of `datasets` are such. Rows from 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from nexa.core.errors import DataError
from nexa.data.loaders.arrow_sizes import declared_bytes
from nexa.data.loaders.columns import FAULTS, damaged, lines_of
from nexa.data.loaders.opening import empty, mapped
from nexa.data.loaders.unpacking import bomb, most_unpacked
from nexa.data.rows import Line

BATCH_ROWS = 256
KIND = "Arrow"
# A file says how it begins; a stream of messages begins with the mark of one.
FILE, MESSAGE = b"ARROW1", b"\xff\xff\xff\xff"
FILE_HEAD_BYTES = 8  # its messages follow as in a stream


def read_arrow(path: Path, name: str) -> Iterator[Line]:
    """The rows of a file or a stream in their order.

    Raises:
        DataError: no such file, no Arrow, no rows, a part of it is damaged, or it holds far more
            than its size lets expect.
    """
    rows = 0
    for line in lines_of(_slices(path), path, name, KIND):
        rows += 1
        yield line
    if not rows:
        raise empty(path, found="a header and no rows")


def count_arrow(path: Path) -> int:
    """How many rows a file has: its batches are passed over, none is turned into rows.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sum(batch.num_rows for batch in _batches(path))
    except FAULTS as error:
        if isinstance(error, DataError):
            raise
        raise damaged(path, KIND, error) from error


def _slices(path: Path) -> Iterator[Any]:
    for batch in _batches(path):
        # Offsets of a broken file may point anywhere: they are looked at before they are followed.
        batch.validate(full=True)
        for at in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(at, BATCH_ROWS)


def _batches(path: Path) -> Iterator[Any]:
    """Record batches, as they lie in the file."""
    data = mapped(path)
    head = data[: len(FILE)]
    if not head:
        raise empty(path)
    if head == FILE or head.startswith(MESSAGE):
        _check_sizes(data, path, begin=FILE_HEAD_BYTES if head == FILE else 0)
    if head == FILE:
        file = pa.ipc.open_file(pa.py_buffer(data))
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
    elif head.startswith(MESSAGE):
        yield from pa.ipc.open_stream(pa.py_buffer(data))
    else:
        old = head.startswith(b"FEA1")
        raise DataError(
            f"{path} is not {KIND}",
            found="Feather, version 1" if old else f"it begins with {head!r}",
            fix="write it as version 2: pyarrow.feather.write_feather" if old else None,
        )


def _check_sizes(data: Any, path: Path, begin: int) -> None:
    """Refuse batches that say they are far longer than the file, before one is unpacked."""
    size_bytes = path.stat().st_size
    declared = declared_bytes(pa.py_buffer(data).slice(begin))
    if declared > most_unpacked(size_bytes):
        raise bomb(path, size_bytes, f"{declared:,}, as its batches say")
