"""Near-duplicates among more texts than memory holds.

As `nexa.core.overlap`, over shingles that lie in files: the measure, the thresholds and the result
are the same, whatever the number of texts. In memory are arrays of numbers, a few bytes a text
each; shingles are read from their files where two texts are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexa.core.near import joins
from nexa.core.near.counts import count
from nexa.core.near.leaks import find_leaks
from nexa.core.near.measure import Measure
from nexa.core.near.pairs import Keys, Part, can_be_alike, find_alike, sketch_rows
from nexa.core.near.shelf import Mask, Rows, Shelf, ShingleWriter
from nexa.core.overlap import ROUNDING, SAME_ANSWER, SAME_ROW, Example, Hit
from nexa.core.shingles import Hashes, running
from nexa.core.sketches import BANDS

__all__ = ["Corpus", "Memberships", "ShingleWriter"]


@dataclass(frozen=True)
class Memberships:
    """For each text the clusters it is alike to, as `overlap.memberships` has them, in arrays.

    The heads of text i are `heads[offsets[i] : offsets[i + 1]]`, ascending indices of first texts;
    a text that is like no earlier one has itself. Of a text that was not asked for: none.
    """

    offsets: NDArray[np.int64]
    heads: NDArray[np.int64]

    def of(self, row: int) -> tuple[int, ...]:
        """The heads of one text."""
        return tuple(self.heads[self.offsets[row] : self.offsets[row + 1]].tolist())


class Corpus:
    """Rows whose shingles lie in files, in the files' order.

    `alive`, a mask over all rows, says which are in at all: those alone are counted. Weights
    (`log2(1 + N / n)`) stay what they are then, also where only some of these rows take part.
    `scratch` is a folder that holds as much as the files while shingles are counted; `workers`
    threads share the work (NumPy computes outside Python's lock).
    """

    def __init__(
        self,
        files: Sequence[Path],
        scratch: Path,
        *,
        workers: int = 1,
        alive: Mask | None = None,
    ) -> None:
        """Count the shingles of the rows that are in.

        Raises:
            IntegrityError: a file is not one that `ShingleWriter` has finished.
        """
        self._shelf, self._workers = Shelf(files), workers
        self._alive = np.ones(len(self._shelf), bool) if alive is None else alive.copy()
        frequencies = count(self._shelf, self._alive, scratch, workers)
        self._measure = Measure(self._shelf, frequencies, workers)
        self._rows: Rows = np.empty(0, np.int64)  # that have been sketched, ascending
        self._bands: Keys = np.empty((0, BANDS), np.uint32)

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def measured_pairs(self) -> int:
        """How many pairs of rows were measured so far."""
        return self._measure.pairs

    def copies(self, *, settled: int = 0, alive: Mask | None = None) -> Rows:
        """For each row the earlier row that it is a near-copy of; see `overlap.copies`.

        A row that stays has its own index, one that takes no part has -1. The first `settled`
        rows stay. This is the whole rule of near-copies: no key or threshold is left to the caller.
        """
        alive = self._alive if alive is None else self._alive & alive
        part = self._part(SAME_ROW, alive & (self._measure.totals.weight > 0), self._shelf.keys)

        def test(i: Rows, j: Rows) -> Mask:
            passed: Mask = part.salt[i] == part.salt[j]
            for threshold, answers in ((SAME_ROW, False), (SAME_ANSWER, True)):
                at = np.flatnonzero(passed)
                a, b = part.rows[i[at]], part.rows[j[at]]
                scores = self._measure.jaccard(a, b, answers=answers)
                passed[at] = scores >= threshold - ROUNDING
            return passed

        before = int(np.searchsorted(part.rows, settled))
        first = joins.copies(part, find_alike(part, test), before, test)
        found = np.where(alive, np.arange(len(self)), -1)
        found[part.rows] = part.rows[first]
        return found

    def memberships(self, threshold: float, *, alive: Mask | None = None) -> Memberships:
        """Clusters of the texts that take part; see `overlap.memberships`."""
        alive = self._alive if alive is None else self._alive & alive
        part = self._part(threshold, alive, np.zeros(len(self), np.uint64))

        def test(i: Rows, j: Rows) -> Mask:
            return part.jaccard(i, j) >= threshold - ROUNDING

        heads = joins.clusters(part, find_alike(part, test), test)
        counts = alive.astype(np.int64)
        counts[part.rows[list(heads)]] = [len(found) for found in heads.values()]
        offsets = running(counts)
        flat = np.repeat(np.arange(len(self)), counts)
        for place, found in heads.items():
            row = part.rows[place]
            flat[offsets[row] : offsets[row + 1]] = part.rows[found]
        return Memberships(offsets, flat)

    def leaks(self, held_out: Sequence[Example], *, alive: Mask | None = None) -> list[Hit]:
        """The rows that give a held-out row away, each with its best hit, in the rows' order.

        Of `overlap.leaks(rows, held_out)` the first hit of each training row: the same prompt,
        near-duplicates and quotations. Weights are those of all rows that are in and of the
        held-out ones together.
        """
        alive = self._alive if alive is None else self._alive & alive
        return find_leaks(self._measure, held_out, self._alive, alive, self._workers)

    def _part(self, threshold: float, alive: Mask, salt: Hashes) -> Part:
        """The rows of `alive` that can reach the threshold with any other."""
        rows = np.flatnonzero(alive & can_be_alike(self._measure, threshold))
        new = np.setdiff1d(rows, self._rows, assume_unique=True)
        if len(new):
            bands = np.concatenate([self._bands, sketch_rows(self._measure, new, self._workers)])
            known = np.concatenate([self._rows, new])
            order = np.argsort(known)
            self._rows, self._bands = known[order], bands[order]
        at = np.searchsorted(self._rows, rows)
        return Part(self._measure, threshold, rows, self._bands[at], salt[rows])
