"""Rows from Arrow's columns, for Parquet and Arrow files; a row's number is its place, from 1.

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

from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes
from nexa.core.values import MAX_ROW_BYTES, Refused, is_too_deep
from nexa.data.loaders.unpacking import bomb, most_unpacked
from nexa.data.rows import Line

# What pyarrow raises for a file whose bytes make no sense, and for values Python cannot hold.
FAULTS = (
    pa.ArrowException,
    ValueError,
    OverflowError,
    OSError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
)


def lines_of(
    batches: Iterator[Any], path: Path, name: str, kind: str, *, before: int = 0
) -> Iterator[Line]:
    """The rows of record batches in their order; `kind` is what the file is called.

    `before` is how many rows of the file stand before these.

    Raises:
        DataError: a batch is damaged, or they hold far more than the file's size lets expect.
    """
    number, unpacked, decoded = before, 0, 0
    size_bytes = path.stat().st_size
    most = most_unpacked(size_bytes)
    while (batch := _next(batches, path, number, kind)) is not None:
        unpacked += batch.nbytes
        if max(unpacked, decoded) > most:
            raise bomb(path, size_bytes, f"more than {most:,}, of which {number:,} rows were read")
        for row in _rows(batch):
            number += 1
            line, characters = _line(row, name, number)
            decoded += characters  # a batch with a dictionary is less than its rows
            yield line


def damaged(path: Path, kind: str, error: Exception, place: str = "") -> DataError:
    """The error for a file that pyarrow cannot read."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(
        f"{path} is damaged, or not {kind}",
        found=place + lines[0][:200],
        fix="fetch or write the file again",
    )


def _next(batches: Iterator[Any], path: Path, read: int, kind: str) -> Any:
    try:
        return next(batches, None)
    except FAULTS as error:
        if isinstance(error, DataError):
            raise
        raise damaged(path, kind, error, f"after row {read:,}: ") from error


def _rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch as Python has them, or why one cannot be."""
    try:
        yield from batch.to_pylist()
    except FAULTS:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except FAULTS as error:
                yield f"a value that cannot be read: {error}"


def _line(row: dict[str, Any] | str, name: str, number: int) -> tuple[Line, int]:
    """A row, and its length as JSON."""
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
    return Line(name, number, sha256_bytes(known.encode()), data, problem), len(known)


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
