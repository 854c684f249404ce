"""Parquet: a batch of rows in memory at a time; a row's number is its place in the file, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import DataError
from nexa.data.loaders.columns import FAULTS, damaged, lines_of
from nexa.data.loaders.opening import empty, mapped, reading
from nexa.data.loaders.unpacking import bomb, most_unpacked
from nexa.data.rows import Line

# Few: a column that repeats one long text is short in the file and long in a batch.
BATCH_ROWS = 256
MAGIC = b"PAR1"
KIND = "Parquet"
# A value takes at least some bits, however well it is packed: more rows than this are not there.
MOST_ROWS_A_BYTE = 1000


def read_parquet(path: Path, name: str) -> Iterator[Line]:
    """The rows of a file in their order.

    Raises:
        DataError: no such file, no Parquet, no rows, a part of it is damaged, or it holds far
            more than its size lets expect.
    """
    file = _open(path)
    rows = 0
    for line in lines_of(file.iter_batches(batch_size=BATCH_ROWS), path, name, KIND):
        rows += 1
        yield line
    if not rows:
        raise empty(path, found=f"{len(file.schema_arrow)} columns and no rows")


@dataclass(frozen=True)
class Groups:
    """Some of a file's row groups, which can be read by themselves."""

    numbers: tuple[int, ...]
    before: int
    rows: int

    def __str__(self) -> str:
        return f"rows {self.before + 1:,} to {self.before + self.rows:,}"


def groups_of(path: Path, size_bytes: int) -> Iterator[Groups]:
    """A file's row groups, of at least `size_bytes` unpacked together but for the last ones.

    Raises:
        DataError: as `read_parquet`, but for a part that is damaged.
    """
    metadata = _open(path).metadata
    some: list[int] = []
    before = rows = unpacked = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        some.append(number)
        rows, unpacked = rows + group.num_rows, unpacked + group.total_byte_size
        if unpacked >= size_bytes or number + 1 == metadata.num_row_groups:
            yield Groups(tuple(some), before, rows)
            some, before, rows, unpacked = [], before + rows, 0, 0


def read_groups(path: Path, name: str, groups: Groups) -> Iterator[Line]:
    """The rows of some row groups, as `read_parquet` has them.

    Raises:
        DataError: as `read_parquet`.
    """
    batches = _open(path).iter_batches(batch_size=BATCH_ROWS, row_groups=list(groups.numbers))
    yield from lines_of(batches, path, name, KIND, before=groups.before)


def count_parquet(path: Path) -> int:
    """How many rows a file says it has.

    Raises:
        DataError: no such file, or no Parquet.
    """
    return int(_open(path).metadata.num_rows)


def _open(path: Path) -> pq.ParquetFile:
    with reading(path) as file:
        head = file.read(len(MAGIC))
    if not head:
        raise empty(path)
    if head != MAGIC:
        raise DataError(f"{path} is not {KIND}", found=f"it begins with {head!r}")
    data = mapped(path)
    try:
        found = pq.ParquetFile(pa.py_buffer(data), page_checksum_verification=True)
    except FAULTS as error:
        raise damaged(path, KIND, error) from error
    _check_metadata(found.metadata, path)
    return found


def _check_metadata(metadata: pq.FileMetaData, path: Path) -> None:
    """Refuse what a file says of itself that cannot be, before any of it is read."""
    size_bytes = path.stat().st_size
    rows = metadata.num_rows
    if rows < 0 or rows > MOST_ROWS_A_BYTE * size_bytes:
        raise DataError(
            f"{path} is damaged: its metadata cannot be",
            found=f"{rows:,} rows in {size_bytes:,} bytes",
            fix="fetch or write the file again",
        )
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    declared = sum(group.total_byte_size for group in groups)
    if declared > most_unpacked(size_bytes):
        raise bomb(path, size_bytes, f"{declared:,}, as its metadata says")
