"""Exact weighted Jaccard of many pairs of rows at once, read from the files of their shingles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nexa.core.near.counts import Frequencies
from nexa.core.near.shelf import Mask, Rows, Shelf, in_turn
from nexa.core.overlap import ROUNDING
from nexa.core.shingles import HASH, IN_ANSWER, Hashes, Offsets, running, spread

MOST_PAIRS = 1 << 12  # measured at once: some 10 MB of shingles, and some copies of them
LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)

Scores = NDArray[np.float64]


class Totals(NamedTuple):
    """What each row weighs, and how much of it no other row has."""

    weight: Scores
    alone: Scores


class Measure:
    """Measures pairs of rows of a shelf."""

    def __init__(self, shelf: Shelf, frequencies: Frequencies, workers: int) -> None:
        self.shelf, self.frequencies = shelf, frequencies
        self._workers = workers
        self.pairs = 0  # measured so far
        self.totals = Totals(np.empty(len(shelf)), np.empty(len(shelf)))
        for (begin, end), part in zip(
            shelf.spans(), in_turn(workers, self._totals, shelf.spans()), strict=True
        ):
            self.totals.weight[begin:end], self.totals.alone[begin:end] = part

    def _totals(self, span: tuple[int, int]) -> Totals:
        hashes, offsets = self.shelf.read(*span)
        counts = self.frequencies.of(hashes & HASH)
        weights = self.frequencies.weights(counts)
        return Totals(sums(weights, offsets), sums(np.where(counts > 1, 0.0, weights), offsets))

    def jaccard(self, a: Rows, b: Rows, *, answers: bool = False) -> Scores:
        """Weighted Jaccard of each pair `a[i], b[i]`; with `answers`, of their answers alone."""
        self.pairs += len(a)
        starts = range(0, len(a), MOST_PAIRS)
        work = [(a[at : at + MOST_PAIRS], b[at : at + MOST_PAIRS], answers) for at in starts]
        workers = min(self._workers, max(len(work), 1))
        return np.concatenate([*in_turn(workers, self._jaccard, work), np.empty(0)])

    def _jaccard(self, work: tuple[Rows, Rows, bool]) -> Scores:
        a, b, answers = work
        rows, place = np.unique(np.concatenate([a, b]), return_inverse=True)
        hashes, offsets = self.shelf.take(rows)
        if answers:
            hashes, offsets = only(hashes, offsets, (hashes & IN_ANSWER).astype(bool))
        distinct, local = np.unique(hashes & HASH, return_inverse=True)
        weights = self.frequencies.weights(self.frequencies.of(distinct))
        totals = sums(weights[local], offsets)
        first, second = place[: len(a)], place[len(a) :]
        shared = shared_weight(local.astype(np.uint64), offsets, first, second, weights)
        union = totals[first] + totals[second] - shared
        return np.divide(shared, union, out=np.ones(len(a)), where=union > ROUNDING)


def shared_weight(
    local: Hashes, offsets: Offsets, first: Rows, second: Rows, weights: Scores
) -> Scores:
    """The weight that each pair of rows has in common; `local` are places in `weights`."""
    ends = np.concatenate([_keyed(local, offsets, first), _keyed(local, offsets, second)])
    ends.sort()
    twice = ends[1:][ends[1:] == ends[:-1]]
    pair = (twice >> HALF).astype(np.intp)
    shared = np.zeros(len(first))
    np.add.at(shared, pair, weights[(twice & LOW_HALF).astype(np.intp)])
    return shared


def _keyed(local: Hashes, offsets: Offsets, rows: Rows) -> Hashes:
    """The shingles of rows, each with the number of its pair above it."""
    ends = running(offsets[rows + 1] - offsets[rows])
    pair = np.repeat(np.arange(len(rows), dtype=np.uint64), np.diff(ends))
    return (pair << HALF) | local[spread(offsets[rows], ends)]


def only(hashes: Hashes, offsets: Offsets, chosen: Mask) -> tuple[Hashes, Offsets]:
    """Rows without the shingles that are not chosen."""
    return hashes[chosen], running(chosen)[offsets]


def sums(values: Scores, offsets: Offsets) -> Scores:
    """The sum of each row's values."""
    found = np.zeros(len(offsets) - 1)
    begins = offsets[:-1]
    some = np.diff(offsets) > 0
    if some.any():
        found[some] = np.add.reduceat(values, begins[some])
    return found
