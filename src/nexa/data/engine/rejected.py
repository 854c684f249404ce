"""rejects.jsonl: a line for each row that was left out, as its line stood in the source."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from nexa.data.engine.sieve import Sieve
from nexa.data.engine.stage import path_of
from nexa.data.engine.stager import Done
from nexa.data.rows import Line, Reject


class Told(NamedTuple):
    """A reject's place among others (its line, then the filter that it was left out by)."""

    line: int
    step: int
    row: int
    text: bytes


class InOrder:
    """Rejects in the order of the sources' lines; a context manager around one file."""

    def __init__(self, path: Path, sieve: Sieve) -> None:
        self._file = path.open("wb")
        self._sieve = sieve
        self._waiting: list[Told] = []
        self._read: Iterator[Told] = iter(())
        self._next: Told | None = None

    def __enter__(self) -> InOrder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def begin(self, done: Done) -> None:
        """A part begins: here are those that were left out as it was read."""
        path = path_of(self._sieve.staged.folder, done.part.number, "rejects")
        self._read = _as_read(path)
        self._next = next(self._read, None)

    def add(self, batch: pa.RecordBatch, begin: int) -> None:
        """Rows of the part, as they were written; `begin` is the first one's number."""
        self._waiting += told_of(self._sieve, batch, begin)
        # Elements of one line are sorted by filter: it is written when another line is reached.
        self._write(below=int(self._sieve.staged.facts["line"][begin + batch.num_rows - 1]))

    def end(self) -> None:
        """The part ends."""
        self._write(below=None)

    def _write(self, below: int | None) -> None:
        ready = [told for told in self._waiting if below is None or told.line < below]
        self._waiting = self._waiting[len(ready) :]
        for told in heapq.merge(sorted(ready), self._read_below(below)):
            self._file.write(told.text)

    def _read_below(self, below: int | None) -> Iterator[Told]:
        while self._next is not None and (below is None or self._next.line < below):
            yield self._next
            self._next = next(self._read, None)


class ByFilter:
    """Rejects filter by filter, those of the reading first, after lines that were there before."""

    def __init__(self, path: Path, sieve: Sieve, before: Iterable[bytes]) -> None:
        self._path = path
        self._sieve = sieve
        self._open = ExitStack()
        self._files: dict[int, IO[bytes]] = {}
        self._of(0).writelines(before)

    def __enter__(self) -> ByFilter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._open, self._path.open("wb") as whole:
            for _, file in sorted(self._files.items()):
                file.seek(0)
                shutil.copyfileobj(file, whole)

    def begin(self, done: Done) -> None:
        """A part begins: those that were left out as it was read."""
        path = path_of(self._sieve.staged.folder, done.part.number, "rejects")
        with path.open("rb") as file:
            shutil.copyfileobj(file, self._of(0))

    def add(self, batch: pa.RecordBatch, begin: int) -> None:
        """Rows of the part, as they were written; `begin` is the first one's number."""
        for told in told_of(self._sieve, batch, begin):
            self._of(told.step).write(told.text)

    def end(self) -> None:
        """The part ends."""

    def _of(self, step: int) -> IO[bytes]:
        if step not in self._files:
            path = self._sieve.staged.folder / f"rejects.{step}"
            self._files[step] = self._open.enter_context(path.open("w+b"))
        return self._files[step]


def told_of(sieve: Sieve, batch: pa.RecordBatch, begin: int) -> Sequence[Told]:
    """The rows of a batch that were left out, in their order."""
    out = np.flatnonzero(~sieve.alive[begin : begin + batch.num_rows])
    if not len(out):
        return []
    names = ("row_id", "group", "origin", "sha256", "refused")
    records: list[dict[str, Any]] = batch.select(list(names)).take(pa.array(out)).to_pylist()
    found = []
    for row, record in zip((begin + out).tolist(), records, strict=True):
        line = Line.at(record["origin"], record["sha256"])
        reject = Reject(line, sieve.reason(row), sieve.detail(row, record))
        text = json.dumps(reject.to_json(), ensure_ascii=False).encode() + b"\n"
        found.append(Told(line.number, int(sieve.steps[row]), row, text))
    return found


def _as_read(path: Path) -> Iterator[Told]:
    with path.open("rb") as file:
        for row, text in enumerate(file):
            yield Told(json.loads(text)["line"], 0, row, text)
