"""All rows of all parts, as arrays of numbers; the rows themselves stay in their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexa.core.events import progress
from nexa.core.hardware import usable_cores
from nexa.core.near.corpus import Corpus
from nexa.data.engine.parts import Part
from nexa.data.engine.stage import FACTS, path_of, read_facts, read_rows
from nexa.data.engine.stager import Done, Job, Stager
from nexa.data.engine.workers import Workers
from nexa.lm.chat import ChatTemplate

# Below this the processes would take longer to start than to read.
SMALL_BYTES = 4 << 20


def labour_of(size_bytes: int, workers: int | None) -> int:
    """How many processes so many bytes of rows are worth; 0: this one, for small data."""
    if workers is not None:
        return workers
    return 0 if size_bytes < SMALL_BYTES else usable_cores()


class Staged:
    """The rows that were read, numbered from 0 in the order of their parts.

    `facts` has a column for each field of `FACTS` until it is dropped; `done` tells of each part.
    """

    def __init__(self, folder: Path, done: Sequence[Done], workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self.done = sorted(done, key=lambda item: item.part.number)
        self.begins = np.cumsum([0, *(item.rows for item in self.done)])
        self._files: dict[str, int] = {}
        self.facts = self._gathered()
        self.rejects: Counter[str] = Counter()
        for item in self.done:
            self.rejects.update(item.rejects)

    def __len__(self) -> int:
        return int(self.begins[-1])

    @property
    def read(self) -> int:
        """Rows that the parts have, rejects among them."""
        return sum(item.read for item in self.done)

    def origin(self, row: int) -> str:
        """Where a row stands, as `rows.Line.origin`."""
        name, line, element = (self.facts[key][row] for key in ("file", "line", "element"))
        return f"{list(self._files)[name]}:{line}" + (f"[{element}]" if element else "")

    def record(self, row: int) -> dict[str, Any]:
        """A row as it was written, read back: for a few of them."""
        part = int(np.searchsorted(self.begins, row, side="right")) - 1
        at = row - int(self.begins[part])
        batches = read_rows(self.folder, self.done[part].part.number)
        while at >= (batch := next(batches)).num_rows:
            at -= batch.num_rows
        found: dict[str, Any] = batch.slice(at, 1).to_pylist()[0]
        return found

    def corpus(self, alive: NDArray[np.bool_], begin: int = 0) -> Corpus:
        """The texts, as they are compared, of the rows of part `begin` and later ones.

        Only rows that are still in are counted: what is common is decided by these alone.
        """
        files = [path_of(self.folder, item.part.number, "shingles") for item in self.done[begin:]]
        return Corpus(files, self.folder, workers=max(1, self.workers), alive=alive)

    def drop(self, *names: str) -> None:
        """Forget columns that nobody will ask for."""
        for name in names:
            self.facts.pop(name, None)

    def _gathered(self) -> dict[str, NDArray[Any]]:
        assert FACTS.names is not None
        columns = {
            name: np.empty((len(self), *FACTS[name].shape), FACTS[name].base)
            for name in FACTS.names
        }
        for item, begin in zip(self.done, self.begins.tolist(), strict=False):
            facts = read_facts(self.folder, item.part.number)
            names = [self._files.setdefault(name, len(self._files)) for name in item.files]
            facts["file"] = np.array(names, np.int32)[facts["file"]]
            for name, column in columns.items():
                column[begin : begin + item.rows] = facts[name]
        return columns


def stage(parts: Iterable[Part], job: Job, workers: int, template: ChatTemplate) -> Staged:
    """Read all parts.

    Raises:
        DataError: a file cannot be read.
        CapacityError: the machine's memory does not hold the processes.
    """
    with progress("reading", unit="rows") as bar:
        done = list(_done(parts, job, workers, template, bar.advance))
    return Staged(job.folder, done, workers)


def _done(
    parts: Iterable[Part],
    job: Job,
    workers: int,
    template: ChatTemplate,
    advance: Callable[[int], None],
) -> Iterator[Done]:
    if workers:
        with Workers(job, workers) as processes:
            yield from processes.read(parts, advance)
        return
    stager = Stager(job, template)
    for part in parts:
        yield stager.read(part, advance)
