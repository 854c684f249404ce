"""Which rows are still in, and why the others are not: a few bytes a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexa.data.engine.staged import Staged
from nexa.data.keys import Codes

# What a reject says: from the row as it was written, and the number that was noted with it.
Tells = Callable[[int, Mapping[str, Any], int], str]
NOBODY = -1


class Sieve:
    """Rows that go through one filter after another; the first `settled` are never left out."""

    def __init__(self, staged: Staged, settled: int = 0) -> None:
        self.staged = staged
        self.settled = settled
        self.alive = np.ones(len(staged), dtype=bool)
        self._step = 0
        self.steps = np.zeros(len(staged), dtype=np.uint8)
        self._reasons: list[str] = []
        self._tells: list[Tells] = []
        self._reason = np.zeros(len(staged), dtype=np.uint8)
        self._noted = np.full(len(staged), NOBODY, dtype=np.int64)

    @property
    def rows(self) -> Codes:
        """The rows that are still in."""
        return np.flatnonzero(self.alive)

    def step(self) -> None:
        """What is left out from now on is left out by another filter."""
        self._step += 1

    def leave_out(
        self, reason: str, rows: Codes, tells: Tells, noted: NDArray[np.int64] | None = None
    ) -> None:
        """Leave rows out; `tells` makes each one's detail from what is `noted` of it."""
        self._reasons.append(reason)
        self._tells.append(tells)
        self.alive[rows] = False
        self.steps[rows] = self._step
        self._reason[rows] = len(self._reasons) - 1
        if noted is not None:
            self._noted[rows] = noted

    def reason(self, row: int) -> str:
        """Why a row was left out, as it is counted."""
        return self._reasons[int(self._reason[row])]

    def detail(self, row: int, record: Mapping[str, Any]) -> str:
        """What exactly was wrong with a row that was left out; `record` is the row as written."""
        return self._tells[int(self._reason[row])](row, record, int(self._noted[row]))

    def counts(self) -> Counter[str]:
        """Rows left out by reason, those that were as they were read first."""
        found = Counter(self.staged.rejects)
        out = np.flatnonzero(~self.alive)
        order = np.lexsort((out, self.steps[out]))
        codes, first, sizes = np.unique(
            self._reason[out[order]], return_index=True, return_counts=True
        )
        for at in np.argsort(first):
            found[self._reasons[codes[at]]] += int(sizes[at])
        return found

    def shown(self, most: int) -> Sequence[str]:
        """The first rows that were left out, each with its place."""
        lines = [line for item in self.staged.done for line in item.shown][:most]
        out = np.flatnonzero(~self.alive)
        order = out[np.lexsort((out, self.steps[out]))]
        for row in order[: most - len(lines)].tolist():
            lines.append(f"{self.staged.origin(row)}: {self.detail(row, self.staged.record(row))}")
        return lines
