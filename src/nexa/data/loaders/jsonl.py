"""JSON lines: one object a line, UTF-8. Blank lines are no rows.

A line that is not what it should be is handed on with its problem: broken JSON, bytes that are
not UTF-8, a value that JSON has not (NaN), a key written twice (one of the two would be lost), a
line of more than 8 MB. A file that is none of this from the first byte is a `DataError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nexa.core.errors import DataError
from nexa.data.loaders.opening import (
    BOM,
    HEAD_BYTES,
    check_head,
    empty,
    reading,
    text_lines,
)
from nexa.data.rows import Line
from nexa.data.values import parse


def read_jsonl(path: Path, name: str) -> Iterator[Line]:
    """The lines of a file in their order, each with its number from 1.

    Raises:
        DataError: no such file, an empty one, a binary one, or one JSON array.
    """
    rows = 0
    with reading(path) as file:
        _check(file, path)
        for line in text_lines(file):
            if line.raw.strip():
                rows += 1
                data, problem = parse(line.raw)
                yield Line(name, line.number, line.sha256, data, problem)
    if not rows:
        raise empty(path)


def count_jsonl(path: Path) -> int:
    """How many lines a file has that are not blank; nothing is parsed.

    Raises:
        DataError: it cannot be read.
    """
    with reading(path) as file:
        head = file.read(HEAD_BYTES)
        check_head(head, path, "JSON lines")
        file.seek(0)
        return sum(1 for line in file if line.strip())


def _check(file: IO[bytes], path: Path) -> None:
    head = file.read(HEAD_BYTES)
    check_head(head, path, "JSON lines")
    if head.removeprefix(BOM).lstrip().startswith(b"["):
        raise DataError(
            f"{path} is not JSON lines",
            found="one JSON list over the whole file",
            fix=f"mv {path.name} {path.stem}.json",
        )
    file.seek(0)
