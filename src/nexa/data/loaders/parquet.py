"""Parquet: a batch of rows in memory at a time; a row's number is its place in the file, from 1.

Types that JSON has not are turned into it: a time into its ISO text, a decimal into its digits.
A value that cannot be (bytes, NaN, text that is not UTF-8) makes its row a reject, and says which
column it stands in.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes
from nexa.data.loaders.opening import empty, mapped, reading
from nexa.data.rows import Line
from nexa.data.values import MAX_ROW_BYTES, Refused, is_too_deep

BATCH_ROWS = 1024
MAGIC = b"PAR1"
# What pyarrow raises for a file whose bytes make no sense, and for values Python cannot hold.
_FAULTS = (pa.ArrowException, ValueError, OverflowError, OSError, TypeError, KeyError)


def read_parquet(path: Path, name: str) -> Iterator[Line]:
    """The rows of a file in their order.

    Raises:
        DataError: no such file, no Parquet, no rows, or a part of it is damaged.
    """
    number = 0
    file = _open(path)
    batches = file.iter_batches(batch_size=BATCH_ROWS)
    while (batch := _next(batches, path, number)) is not None:
        for row in _rows(batch):
            number += 1
            yield _line(row, name, number)
    if not number:
        raise empty(path, found=f"{len(file.schema_arrow)} columns and no rows")


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
        raise DataError(f"{path} is not Parquet", found=f"it begins with {head!r}")
    try:
        return pq.ParquetFile(pa.py_buffer(mapped(path)), page_checksum_verification=True)
    except _FAULTS as error:
        raise _damaged(path, error) from error


def _next(batches: Iterator[Any], path: Path, read: int) -> Any:
    try:
        return next(batches, None)
    except _FAULTS as error:
        raise _damaged(path, error, f"after row {read:,}: ") from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch as Python has them, or why one cannot be."""
    try:
        yield from batch.to_pylist()
    except _FAULTS:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except _FAULTS as error:
                yield f"a value that cannot be read: {error}"


def _line(row: dict[str, Any] | str, name: str, number: int) -> Line:
    data: dict[str, Any] | None = None
    problem = ""
    if isinstance(row, str):
        problem = row
    else:
        try:
            data = {key: _plain(value, key) for key, value in row.items()}
        except Refused as error:
            problem = str(error)
    known = json.dumps(data, ensure_ascii=True) if data is not None else repr(row)
    if len(known) > MAX_ROW_BYTES:
        data, problem = None, f"longer than {MAX_ROW_BYTES >> 20} MB"
    return Line(name, number, sha256_bytes(known.encode()), data, problem)


def _plain(value: Any, key: str) -> Any:
    """A value as JSON has it."""
    if is_too_deep(value):
        raise Refused(f"column {key!r}: lists and objects lie in each other too deep")
    if isinstance(value, dict):
        return {str(name): _plain(item, key) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"column {key!r}: {value} is no JSON number")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise Refused(f"column {key!r} holds {type(value).__name__}, which is no text")


def _damaged(path: Path, error: Exception, place: str = "") -> DataError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(
        f"{path} is damaged, or not Parquet",
        found=place + lines[0][:200],
        fix="fetch or write the file again",
    )
