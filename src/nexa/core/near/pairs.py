"""Which pairs of rows are worth measuring, and those of them that are alike.

1. A row that shares too little with any other to reach the threshold is left out at once: what is
   in no other row is more than the threshold leaves over. Exact, and true of most rows.
2. Of the others, rows that share a band of their MinHash sketch are pairs.
3. Where many rows share a band, only those of them are pairs that share a rare shingle, too: a pair
   that reaches the threshold has one in common among the rarest of either. Exact again.
4. Where many rows share such a shingle, too, each is measured against the first of them; what is
   left is told as a group, and `joins` measures of it what can still matter.

Source: Bayardo et al. 2007 (rarest shingles first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexa.core.near.measure import Measure, Scores
from nexa.core.near.shelf import BLOCK, Mask, Rows, in_turn
from nexa.core.overlap import ROUNDING
from nexa.core.shingles import HASH, Hashes, Offsets, mix, running
from nexa.core.sketches import BANDS, ROWS, band_keys, sketch

MOST_TOGETHER = 16  # rows of a group that are all measured with each other
ROOM = 1e-6  # sums over many rows are that exact
LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)

Keys = NDArray[np.uint32]
Test = Callable[[Rows, Rows], Mask]  # whether each pair of places is alike


@dataclass(frozen=True)
class Part:
    """Rows that take part, in ascending order; below, they are counted from 0: their places.

    `bands` `[rows, BANDS]` are the keys of their bands; rows of different `salt` are no pairs.
    """

    measure: Measure
    threshold: float
    rows: Rows
    bands: Keys
    salt: Hashes

    def jaccard(self, i: Rows, j: Rows) -> Scores:
        """Weighted Jaccard of each pair of places `i[k]`, `j[k]`."""
        return self.measure.jaccard(self.rows[i], self.rows[j])

    def together(self, i: Rows, j: Rows) -> Mask:
        """Whether the places `i[k]` and `j[k]` have a band in common."""
        found: Mask = (self.bands[i] == self.bands[j]).any(axis=1)
        found &= self.salt[i] == self.salt[j]
        return found


@dataclass(frozen=True)
class Alike:
    """Pairs of places that are alike, and groups of places that may hold more of them.

    `later` and `earlier` are the pairs, in ascending order; a group is
    `members[offsets[g] : offsets[g + 1]]`, ascending.
    """

    later: Rows
    earlier: Rows
    members: Rows
    offsets: Offsets


def can_be_alike(measure: Measure, threshold: float) -> Mask:
    """Which rows have enough in common with others to reach a threshold with one of them."""
    weight, alone = measure.totals
    return alone <= (1 - threshold + ROUNDING) * weight + ROUNDING


def sketch_rows(measure: Measure, rows: Rows, workers: int) -> Keys:
    """Band keys `[len(rows), BANDS]` of rows in ascending order."""
    shelf, frequencies = measure.shelf, measure.frequencies

    def keys(at: int) -> Keys:
        hashes, offsets = shelf.take(rows[at : at + ROWS])
        hashes = hashes & HASH
        rarity = frequencies.texts / frequencies.of(hashes)
        return band_keys(sketch(hashes, offsets, rarity))

    found = list(in_turn(workers, keys, range(0, len(rows), ROWS)))
    return np.concatenate([*found, np.empty((0, BANDS), np.uint32)])


def find_alike(part: Part, test: Test) -> Alike:
    """Pairs of a part that share a band and pass the test; none of them is below the threshold."""
    crowded = np.zeros(part.bands.shape, bool)
    found = []
    for number in range(BANDS):
        groups = _Groups(_salted(part.bands[:, number], part.salt), np.arange(len(part.rows)))
        for i, j in groups.pairs():
            seen = (part.bands[i, :number] == part.bands[j, :number]) & ~crowded[i, :number]
            found.append(_passed(test, i, j, ~seen.any(axis=1)))
        crowded[groups.crowded, number] = True
    places = np.flatnonzero(crowded.any(axis=1))
    keys, places = _rarest(part, places)
    groups = _Groups(_salted(keys, part.salt[places]), places)
    for i, j in groups.pairs(with_first=True):
        i, j = distinct_pairs(i, j)
        found.append(_passed(test, i, j, part.together(i, j)))
    later, earlier = np.concatenate([np.empty((2, 0), np.int64), *found], axis=1)
    return Alike(*distinct_pairs(later, earlier), *groups.left())


def _salted(keys: NDArray[Any], salt: Hashes) -> Hashes:
    return mix(keys.astype(np.uint64) + salt)


def _passed(test: Test, i: Rows, j: Rows, chosen: Mask) -> NDArray[np.int64]:
    """The chosen pairs that pass the test, `[2, pairs]`."""
    pairs = np.stack([i[chosen], j[chosen]])
    return pairs[:, test(*pairs)]


def distinct_pairs(i: Rows, j: Rows) -> tuple[Rows, Rows]:
    """Each pair once, in ascending order of `i`, then `j`."""
    codes = np.unique((i.astype(np.uint64) << HALF) | j.astype(np.uint64))
    return split_codes(codes)


def split_codes(codes: Hashes) -> tuple[Rows, Rows]:
    """The two numbers that each code is made of."""
    return (codes >> HALF).astype(np.int64), (codes & LOW_HALF).astype(np.int64)


def _rarest(part: Part, places: Rows) -> tuple[Hashes, Rows]:
    """The rarest shingles of rows, so many that two rows without a common one are not alike.

    They weigh more than `1 - threshold` of the row. Shingles that no other row has are left out.
    Returns them and the place of each one's row; a row without any shingle has a 0.
    """
    measure, rows = part.measure, part.rows
    keys, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for at in range(0, len(places), ROWS):
        some = places[at : at + ROWS]
        hashes, offsets = measure.shelf.take(rows[some])
        hashes = hashes & HASH
        owner = np.repeat(np.arange(len(some)), np.diff(offsets))
        counts = measure.frequencies.of(hashes)
        order = np.lexsort((hashes, counts, owner))
        weights = measure.frequencies.weights(counts[order])
        before = np.cumsum(weights) - weights
        before -= before[offsets[owner]]
        room = (1 - part.threshold) * measure.totals.weight[rows[some]] + ROOM
        kept = (before <= room[owner]) & (counts[order] > 1)
        keys.append(hashes[order][kept])
        owners.append(some[owner[kept]])
    empty = places[measure.totals.weight[rows[places]] <= ROUNDING]
    keys.append(np.zeros(len(empty), np.uint64))
    return np.concatenate(keys), np.concatenate([*owners, empty])


class _Groups:
    """Places that have a key in common, for every key that several have."""

    def __init__(self, keys: Hashes, places: Rows) -> None:
        """Take the key of each place; a place may be there several times."""
        order = np.lexsort((places, keys))
        ordered, self._places = keys[order], places[order]
        first = np.ones(len(ordered), bool)
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.append(np.flatnonzero(first), len(ordered))
        self._sizes = np.diff(starts)
        self._starts = starts[:-1]

    @property
    def crowded(self) -> Rows:
        """The places in groups that are too large for every pair of theirs."""
        return self._places[np.repeat(self._sizes > MOST_TOGETHER, self._sizes)]

    def pairs(self, *, with_first: bool = False) -> Iterator[tuple[Rows, Rows]]:
        """Pairs of a later and an earlier place, each of small groups; of large ones on request.

        Of a large group these are the pairs with its first place.
        """
        small = (self._sizes > 1) & (self._sizes <= MOST_TOGETHER)
        chosen = np.repeat(small, self._sizes)
        places, sizes = self._places[chosen], self._sizes[small]
        group = np.repeat(np.arange(len(sizes)), sizes)
        for begin in range(0, len(places), BLOCK):
            end = min(begin + BLOCK, len(places))
            here = np.arange(begin, end)
            found = [np.empty((2, 0), np.int64)]
            for step in range(1, MOST_TOGETHER):
                at = here[here + step < len(places)]
                at = at[group[at] == group[np.minimum(at + step, len(places) - 1)]]
                found.append(np.stack([places[at + step], places[at]]))
            i, j = np.concatenate(found, axis=1)
            yield i, j
        if with_first:
            large = self._sizes > MOST_TOGETHER
            places = self._places[np.repeat(large, self._sizes)]
            firsts = np.repeat(self._places[self._starts[large]], self._sizes[large])
            for begin in range(0, len(places), BLOCK):
                i, j = places[begin : begin + BLOCK], firsts[begin : begin + BLOCK]
                yield i[i != j], j[i != j]

    def left(self) -> tuple[Rows, Offsets]:
        """The large groups: their places, one group after the other, and where each begins."""
        large = self._sizes > MOST_TOGETHER
        return self._places[np.repeat(large, self._sizes)], running(self._sizes[large])
