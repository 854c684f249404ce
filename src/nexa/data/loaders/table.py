"""CSV and TSV: a header of keys, then one row a record, in UTF-8. Every value is a text.

A quoted cell may hold line ends; a row's number is the line at which it begins. A record that
cannot be read (a quote that is never closed, more cells than the header has) costs its first
line only: reading goes on at the next one. Cells of `messages`, `conversations` and `history` may
hold JSON.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nexa.core import values
from nexa.core.errors import FormatError
from nexa.core.identity import sha256_bytes
from nexa.data.loaders.opening import (
    HEAD_BYTES,
    TextLine,
    check_head,
    empty,
    reading,
    text_lines,
)
from nexa.data.rows import Line

DELIMITERS = (",", ";", "\t", "|")
JSON_COLUMNS = ("messages", "conversations", "history")


@dataclass(frozen=True)
class _Record:
    """One row of cells, or what is wrong with it."""

    number: int
    sha256: str
    cells: Sequence[str] = ()
    problem: str = ""


def read_csv(path: Path, name: str) -> Iterator[Line]:
    """The records of a file; the delimiter is the one that cuts the header into most cells.

    Raises:
        DataError: no such file, an empty one, or a binary one.
        FormatError: a header that cannot be read, or with one key twice.
    """
    yield from _read(path, name, DELIMITERS)


def read_tsv(path: Path, name: str) -> Iterator[Line]:
    """As `read_csv`, with tabs between the cells."""
    yield from _read(path, name, ("\t",))


def _read(path: Path, name: str, delimiters: Sequence[str]) -> Iterator[Line]:
    # The csv module's own limit, for all of the process, is lower than what a row may have.
    csv.field_size_limit(max(csv.field_size_limit(), values.MAX_ROW_BYTES))
    rows = 0
    with reading(path) as file:
        check_head(file.read(HEAD_BYTES), path, "CSV")
        file.seek(0)
        source = _Source(file)
        header, delimiter = _header(source, path, delimiters)
        while (record := source.record(delimiter)) is not None:
            rows += 1
            data, problem = _row(header, record)
            yield Line(name, record.number, record.sha256, data, problem)
    if not rows:
        raise empty(path, found=f"a header of {len(header)} columns and no rows")


def _header(source: _Source, path: Path, delimiters: Sequence[str]) -> tuple[list[str], str]:
    """The keys, and the delimiter that they are told apart by."""
    tried = []
    for delimiter in delimiters:
        record = source.record(delimiter, keep=True)
        if record is None:
            raise empty(path)
        tried.append((record, delimiter))
    record, delimiter = max(tried, key=lambda pair: len(pair[0].cells))
    if record.problem:
        raise FormatError(
            f"{path}: the header cannot be read",
            found=f"line {record.number}: {record.problem}",
            fix="begin the file with the names of its columns: question,answer",
        )
    source.record(delimiter)
    keys = [cell.strip() for cell in record.cells]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise FormatError(
            f"{path}: the header has the column {twice!r} more than once",
            found=f"line {record.number}: {len(keys)} columns",
            fix="give each column a name of its own",
        )
    return keys, delimiter


def _row(header: Sequence[str], record: _Record) -> tuple[dict[str, Any] | None, str]:
    if record.problem:
        return None, record.problem
    if len(record.cells) != len(header):
        missing = ", ".join(map(repr, header[len(record.cells) :][:5]))
        why = f"nothing for {missing}" if missing else "a delimiter outside of quotes?"
        return None, f"{len(record.cells)} cells, but {len(header)} columns: {why}"
    row: dict[str, Any] = dict(zip(header, record.cells, strict=True))
    for key in JSON_COLUMNS:
        if str(row.get(key, "")).lstrip().startswith("["):
            wrapped, problem = values.parse(b'{"":' + row[key].encode() + b"}")
            if wrapped is None:
                return None, f"column {key!r}: {problem}"
            row[key] = wrapped[""]
    return row, ""


class _Source:
    """Records from lines, with lines handed back where a record came to nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        self._lines = text_lines(file)
        self._again: deque[TextLine] = deque()

    def record(self, delimiter: str, *, keep: bool = False) -> _Record | None:
        """The next record, None at the end; `keep` leaves its lines to be read again."""
        while (first := self._next()) is not None and not first.raw.strip():
            pass
        if first is None:
            return None
        taken = [first]
        try:
            cells = next(csv.reader(self._texts(taken), delimiter=delimiter, strict=True))
            problem = _not_utf8(taken)
        except (csv.Error, values.Refused) as error:
            cells, problem = [], _explained(error)
            self._again.extendleft(reversed(taken[1:]))
            taken = taken[:1]
        if keep:
            self._again.extendleft(reversed(taken))
        digest = first.sha256
        if len(taken) > 1:
            digest = sha256_bytes(b"\n".join(line.raw for line in taken))
        return _Record(first.number, digest, cells, problem)

    def _next(self) -> TextLine | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _texts(self, taken: list[TextLine]) -> Iterator[str]:
        """The lines that one record takes, as the csv module wants them."""
        line: TextLine | None = taken[0]
        size = 0
        while line is not None:
            size += len(line.raw)
            if size > values.MAX_ROW_BYTES:
                long = "" if len(taken) == 1 else ", or a quote that is never closed"
                raise values.Refused(f"longer than {values.MAX_ROW_BYTES >> 20} MB{long}")
            # Bytes that are not UTF-8 go through as half surrogate pairs, and are told after.
            yield line.raw.decode("utf-8", "surrogateescape") + "\n"
            line = self._next()
            if line is not None:
                taken.append(line)


def _not_utf8(taken: Sequence[TextLine]) -> str:
    """Which byte of a record is no UTF-8, or ""."""
    for line in taken:
        try:
            line.raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = f" of line {line.number}" if len(taken) > 1 else ""
            return values.not_utf8(line.raw, error.start) + at
    return ""


def _explained(error: Exception) -> str:
    if "unexpected end of data" in str(error):
        return "broken CSV: a quote is opened here and never closed"
    return str(error) if isinstance(error, values.Refused) else f"broken CSV: {error}"
