"""JSON lines: one object a line, UTF-8. Blank lines are no rows.

A line that is not what it should be is handed on with its problem: broken JSON, bytes that are
not UTF-8, a value that JSON has not (NaN), a key written twice (one of the two would be lost), a
line of more than 8 MB. A file that is none of this from the first byte is a `DataError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from nexa.core.errors import DataError
from nexa.core.values import parse
from nexa.data.loaders.opening import (
    BOM,
    HEAD_BYTES,
    TextLine,
    check_head,
    empty,
    reading,
    text_lines,
)
from nexa.data.rows import Line


def read_jsonl(path: Path, name: str) -> Iterator[Line]:
    """The lines of a file in their order, each with its number from 1.

    Raises:
        DataError: no such file, an empty one, a binary one, or one JSON array.
    """
    rows = 0
    with reading(path) as file:
        _check(file, path)
        for row in _rows(text_lines(file), name):
            rows += 1
            yield row
    if not rows:
        raise empty(path)


@dataclass(frozen=True)
class Stretch:
    """Whole lines of a file that is not packed; they begin at a byte, and at a line's number."""

    begin: int
    line: int
    lines: int

    def __str__(self) -> str:
        return f"lines {self.line:,} to {self.line + self.lines - 1:,}"


def stretches(path: Path, size_bytes: int) -> Iterator[Stretch]:
    """A file cut into stretches of at least `size_bytes`; an empty file has none.

    Raises:
        DataError: no such file, a binary one, or one JSON array.
    """
    begin, number = 0, 1
    with reading(path) as file:
        _check(file, path)
        while last := file.read(size_bytes):
            lines = last.count(b"\n")
            while not last.endswith(b"\n") and (more := file.readline(size_bytes)):
                last = more
                lines += last.endswith(b"\n")
            lines += not last.endswith(b"\n")
            yield Stretch(begin, number, lines)
            begin, number = file.tell(), number + lines


def read_stretch(path: Path, name: str, stretch: Stretch) -> Iterator[Line]:
    """The lines of a stretch, as `read_jsonl` has them; none, if all are blank.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(path) as file:
        file.seek(stretch.begin)
        yield from _rows(islice(text_lines(file, stretch.line), stretch.lines), name)


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


def _rows(lines: Iterator[TextLine], name: str) -> Iterator[Line]:
    for line in lines:
        if line.raw.strip():
            data, problem = parse(line.raw)
            yield Line(name, line.number, line.sha256, data, problem)


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
