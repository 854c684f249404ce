"""Which rows of a corpus give held-out rows away: `overlap.leaks`, for many rows.

Held-out rows are in memory, those of the corpus are read twice, block by block: once to count the
held-out rows' shingles, once to find the rows that share a rare one with any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nexa.core.near.measure import MOST_PAIRS, Measure, Scores, shared_weight, sums
from nexa.core.near.shelf import Mask, Rows, in_turn, prompt_key
from nexa.core.overlap import (
    CONTAINED,
    MIN_CONTAINED_SHINGLES,
    NEAR_DUPLICATE,
    ROUNDING,
    Example,
    Hit,
)
from nexa.core.shingles import HASH, Hashes, Offsets, running, shingle, spread

FILTER_BITS = 24  # of a table that says which hashes cannot be looked for: 16 MB
MOST_HITS = 1 << 21  # candidate pairs made at once
REASONS: tuple[Literal["near-duplicate", "contained"], ...] = ("near-duplicate", "contained")


class Found(NamedTuple):
    """Pairs that are leaks, at most one a row of the corpus; `reason` is a place in REASONS."""

    row: Rows
    held: Rows
    score: Scores
    reason: Rows


def find_leaks(
    measure: Measure, held_out: Sequence[Example], counted: Mask, alive: Mask, workers: int
) -> list[Hit]:
    """The best hit of each row that leaks among the `alive` ones; see `near.Corpus.leaks`.

    `counted` rows, of which those are some, decide what is rare.
    """
    spans = list(measure.shelf.spans())
    look = _Look(measure, held_out, counted, alive)
    for part in in_turn(workers, look.count, spans):
        look.counts += part
    look.weigh()
    best = {
        row: Hit(row, held, 1.0, "same prompt")
        for row, held in _same_prompts(measure.shelf.prompts, held_out, alive)
    }
    for found in in_turn(workers, look.find, spans):
        for row, held, score, reason in zip(*(part.tolist() for part in found), strict=True):
            hit = Hit(row, held, round(score, 6), REASONS[reason])
            other = best.get(row)
            if other is None or (-hit.score, held) < (-other.score, other.eval_index):
                best[row] = hit
    return [best[row] for row in sorted(best)]


def _same_prompts(
    prompts: Hashes, held_out: Sequence[Example], alive: Mask
) -> Iterator[tuple[int, int]]:
    """Rows with a held-out row's prompt, each with the first such row."""
    first: dict[int, int] = {}
    for j, row in enumerate(held_out):
        first.setdefault(prompt_key(row), j)
    first.pop(0, None)
    keys = np.array(list(first), np.uint64)
    for i in np.flatnonzero(alive & np.isin(prompts, keys)).tolist():
        yield i, first[int(prompts[i])]


class _Look:
    """The held-out rows, and what is known of their shingles."""

    def __init__(
        self, measure: Measure, held_out: Sequence[Example], counted: Mask, alive: Mask
    ) -> None:
        self._measure, self._counted, self._alive = measure, counted, alive
        shingled, _ = shingle((row.prompt, row.answer) for row in held_out)
        self._offsets = shingled.offsets
        self._distinct, self._local, counts = np.unique(
            shingled.hashes & HASH, return_inverse=True, return_counts=True
        )
        self.counts: NDArray[np.int64] = counts.astype(np.int64)
        self._texts = measure.frequencies.texts + len(held_out)
        self._maybe = _filter(self._distinct)

    def count(self, span: tuple[int, int]) -> NDArray[np.int64]:
        """How often each of the held-out rows' shingles is in some rows of the corpus."""
        hashes, offsets = self._measure.shelf.read(*span)
        hashes = hashes[np.repeat(self._counted[slice(*span)], np.diff(offsets))] & HASH
        _, place = self._where(hashes, self._distinct, self._maybe)
        return np.bincount(place, minlength=len(self._distinct))

    def weigh(self) -> None:
        """Weigh the shingles, when all are counted, and choose each held-out row's rarest."""
        self._weights = np.log2(1 + self._texts / self.counts)
        weights = self._weights[self._local]
        self._totals = sums(weights, self._offsets)
        owner = np.repeat(np.arange(len(self._totals)), np.diff(self._offsets))
        order = np.lexsort((self._local, -weights, owner))
        before = np.cumsum(weights[order]) - weights[order]
        before -= before[self._offsets[owner]]
        room = (1 - min(NEAR_DUPLICATE, CONTAINED)) * self._totals + 1e-6
        chosen = order[before <= room[owner]]
        by_shingle = chosen[np.argsort(self._local[chosen], kind="stable")]
        self._holders = owner[by_shingle]
        rare, counts = np.unique(self._local[by_shingle], return_counts=True)
        self._rare, self._rare_ends = self._distinct[rare], running(counts)
        self._maybe = _filter(self._rare)

    def find(self, span: tuple[int, int]) -> Found:
        """The leaks among some rows of the corpus."""
        begin, _ = span
        hashes, offsets = self._measure.shelf.read(*span)
        at, place = self._where(hashes & HASH, self._rare, self._maybe)
        rows = begin + np.searchsorted(offsets, at, side="right") - 1
        taking_part = self._alive[rows]
        rows, place = rows[taking_part], place[taking_part]
        ends = running(np.diff(self._rare_ends)[place])
        found = []
        low = 0
        while low < len(rows):
            high = max(int(np.searchsorted(ends, ends[low] + MOST_HITS, side="right")) - 1, low + 1)
            part = ends[low : high + 1] - ends[low]
            held = self._holders[spread(self._rare_ends[place[low:high]], part)]
            pairs = np.unique(np.stack([np.repeat(rows[low:high], np.diff(part)), held]), axis=1)
            starts = range(0, pairs.shape[1], MOST_PAIRS)
            found += [self._judge(*pairs[:, s : s + MOST_PAIRS]) for s in starts]
            low = high
        empty = np.empty(0, np.int64)
        return _best(Found(*map(np.concatenate, zip(*found, (empty,) * 4, strict=True))))

    def _where(self, hashes: Hashes, known: Hashes, maybe: Mask) -> tuple[Rows, Rows]:
        """Which of the hashes are known ones, and the place of each among those."""
        at = np.flatnonzero(maybe[(hashes >> np.uint64(64 - FILTER_BITS)).astype(np.intp)])
        place = np.searchsorted(known, hashes[at])
        same = known[np.minimum(place, len(known) - 1)] == hashes[at]
        return at[same], place[same]

    def _judge(self, rows: Rows, held: Rows) -> Found:
        """Those pairs that are leaks."""
        distinct_rows, first = np.unique(rows, return_inverse=True)
        distinct_held, second = np.unique(held, return_inverse=True)
        hashes, offsets = self._measure.shelf.take(distinct_rows)
        theirs, their_offsets = self._rows_of(distinct_held)
        both = np.concatenate([hashes & HASH, self._distinct[theirs]])
        distinct, local = np.unique(both, return_inverse=True)
        weights = np.log2(1 + self._texts / self._count_of(distinct))
        ends = np.concatenate([offsets, offsets[-1] + their_offsets[1:]])
        shared = shared_weight(
            local.astype(np.uint64), ends, first, len(distinct_rows) + second, weights
        )
        total = self._totals[held]
        jaccard = shared / (sums(weights[local], ends)[first] + total - shared)
        inside = shared / total
        alike = jaccard >= NEAR_DUPLICATE - ROUNDING
        long = np.diff(self._offsets)[held] >= MIN_CONTAINED_SHINGLES
        leak = alike | (long & (inside >= CONTAINED - ROUNDING))
        score = np.where(alike, jaccard, inside)
        return Found(rows[leak], held[leak], score[leak], (~alike[leak]).astype(np.int64))

    def _rows_of(self, held: Rows) -> tuple[Rows, Offsets]:
        offsets = running(self._offsets[held + 1] - self._offsets[held])
        return self._local[spread(self._offsets[held], offsets)], offsets

    def _count_of(self, distinct: Hashes) -> NDArray[np.int64]:
        """In how many rows of the corpus and held-out rows together each shingle is."""
        counts = self._measure.frequencies.of(distinct).astype(np.int64)
        place = np.minimum(np.searchsorted(self._distinct, distinct), len(self._distinct) - 1)
        known = self._distinct[place] == distinct
        counts[known] = self.counts[place[known]]
        return counts


def _filter(known: Hashes) -> Mask:
    maybe = np.zeros(1 << FILTER_BITS, bool)
    maybe[(known >> np.uint64(64 - FILTER_BITS)).astype(np.intp)] = True
    return maybe


def _best(found: Found) -> Found:
    """Of each row the pair of the best score, of equal ones the first held-out row."""
    order = np.lexsort((found.held, -np.round(found.score, 6), found.row))
    rows = found.row[order]
    first = order[np.flatnonzero(np.diff(rows, prepend=-1))]
    return Found(found.row[first], found.held[first], found.score[first], found.reason[first])
