"""From pairs that are alike to clusters and copies, in the rows' order.

Most rows need nothing but the pairs. Of a group in which not every pair was measured, pairs are
measured only where they can still change the result: first all is settled without them, then the
groups are taken in for which that does not hold, until it holds for all others.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from nexa.core.near.measure import Scores
from nexa.core.near.pairs import HALF, Alike, Part, Test, split_codes
from nexa.core.near.shelf import Rows
from nexa.core.overlap import ROUNDING
from nexa.core.shingles import Hashes

CHUNK = 256  # rows measured at once with one other row
MOST_PREPARED = 1 << 22  # pairs measured before they are asked for
END = np.uint64(2**64 - 1)

Heads = dict[int, list[int]]  # of each row that is like an earlier one


def clusters(part: Part, alike: Alike, test: Test) -> Heads:
    """The heads of rows; see `overlap.memberships`. What is not in it is its own head."""
    inside: Mapping[int, list[int]] = {}
    taken: set[int] = set()
    likeness = _Likeness(part)
    while True:
        heads = _heads(part, alike, inside, test, likeness)
        first = np.arange(len(part.rows))
        first[list(heads)] = [found[0] for found in heads.values()]
        # Members of one cluster add nothing to each other: only a group of several is open.
        ends = alike.offsets[:-1]
        least = np.minimum.reduceat(first[alike.members], ends) if len(ends) else ends
        most = np.maximum.reduceat(first[alike.members], ends) if len(ends) else ends
        torn = set(np.flatnonzero(least < most).tolist())
        if torn <= taken:
            return heads
        taken |= torn
        inside = _inside(alike, taken)
        likeness.prepare(alike, torn, first)


def _heads(
    part: Part, alike: Alike, inside: Mapping[int, list[int]], test: Test, likeness: _Likeness
) -> Heads:
    heads: Heads = {}
    members: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    far: dict[int, float] = {}  # how far a row of a group is from its head
    for row, earlier in _in_order(alike, inside):
        found = {heads[other][0] if other in heads else other for other in earlier}
        unsure: dict[int, set[int]] = defaultdict(set)
        for group in inside.get(row, ()):
            for head, others in members[group].items():
                if head not in found:
                    unsure[head].update(others)
        away = 1 - likeness.of(row, list(unsure))
        for (head, rows), distance in zip(unsure.items(), away.tolist(), strict=True):
            # Jaccard distance is a metric: who is near a head that is far from here is far, too.
            least = distance - (1 - part.threshold) - ROUNDING
            near = [other for other in sorted(rows) if far[other] >= least]
            if _first(part, test, row, near) is not None:
                found.add(head)
        if found:
            heads[row] = sorted(found)
        if row in inside:
            head = min(found, default=row)
            far[row] = 1 - float(likeness.of(row, [head])[0])
            for group in inside[row]:
                members[group][head].append(row)
    return heads


class _Likeness:
    """The Jaccard of rows and heads of clusters; most are measured before they are asked for."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._codes: Hashes = np.array([END])  # ascending, one more than there are scores
        self._scores: Scores = np.zeros(1)

    def prepare(self, alike: Alike, groups: Iterable[int], first: Rows) -> None:
        """Measure the members of groups with what seem to be the heads in their group."""
        codes = [np.empty(0, np.uint64)]
        left = MOST_PREPARED
        for group in sorted(groups):
            rows = alike.members[alike.offsets[group] : alike.offsets[group + 1]]
            heads = np.unique(first[rows])
            left -= len(rows) * len(heads)
            if left >= 0:
                pairs = (rows.astype(np.uint64) << HALF)[:, None] | heads.astype(np.uint64)
                codes.append(pairs[heads <= rows[:, None]])
        new = np.setdiff1d(np.concatenate(codes), self._codes)
        known = np.concatenate([self._codes, new])
        scores = np.concatenate([self._scores, self._part.jaccard(*split_codes(new))])
        order = np.argsort(known)
        self._codes, self._scores = known[order], scores[order]

    def of(self, row: int, heads: list[int]) -> Scores:
        """The Jaccard of a row and some heads."""
        codes = (np.uint64(row) << HALF) | np.array(heads, np.uint64)
        place = np.searchsorted(self._codes, codes)
        scores = self._scores[place]
        new = self._codes[place] != codes
        scores[new] = self._part.jaccard(*split_codes(codes[new]))
        return scores


def copies(part: Part, alike: Alike, settled: int, test: Test) -> Rows:
    """The first earlier row that stays of which each row is a copy; see `overlap.copies`."""
    inside: Mapping[int, list[int]] = {}
    taken: set[int] = set()
    while True:
        first = _copies(part, alike, inside, settled, test)
        torn = set(_open_to_copies(alike, first, settled))
        if torn <= taken:
            return first
        taken |= torn
        inside = _inside(alike, taken)


def _copies(
    part: Part, alike: Alike, inside: Mapping[int, list[int]], settled: int, test: Test
) -> Rows:
    first = np.arange(len(part.rows))
    members: dict[int, list[int]] = defaultdict(list)
    for row, earlier in _in_order(alike, inside):
        if row >= settled:
            found = next((other for other in earlier if first[other] == other), row)
            others = {o for g in inside.get(row, ()) for o in _below(members[g], found)}
            nearer = _first(part, test, row, sorted(others))
            first[row] = found if nearer is None else nearer
        if first[row] == row:
            for group in inside.get(row, ()):
                members[group].append(row)
    return first


def _open_to_copies(alike: Alike, first: Rows, settled: int) -> Iterator[int]:
    """Groups with a row that may be a copy of one that it was not measured against."""
    own = first[alike.members] == alike.members
    for group, (begin, end) in enumerate(itertools.pairwise(alike.offsets.tolist())):
        stay = np.flatnonzero(own[begin + 1 : end])
        if len(stay):
            rows = alike.members[begin + 1 + stay[0] : end]
            if ((rows >= settled) & (first[rows] > rows[0])).any():
                yield group


def _below(rows: list[int], limit: int) -> list[int]:
    return rows[: bisect_left(rows, limit)]


def _first(part: Part, test: Test, row: int, others: list[int]) -> int | None:
    """The first of the other rows that shares a band with this one and is like it."""
    for begin in range(0, len(others), CHUNK):
        some = np.array(others[begin : begin + CHUNK])
        some = some[part.together(np.full(len(some), row), some)]
        passed = np.flatnonzero(test(np.full(len(some), row), some))
        if len(passed):
            return int(some[passed[0]])
    return None


def _inside(alike: Alike, groups: Iterable[int]) -> Mapping[int, list[int]]:
    """The groups, of those named, that each row is in."""
    inside: dict[int, list[int]] = defaultdict(list)
    for group in sorted(groups):
        for row in alike.members[alike.offsets[group] : alike.offsets[group + 1]].tolist():
            inside[row].append(group)
    return dict(inside)


def _in_order(alike: Alike, inside: Mapping[int, list[int]]) -> Iterator[tuple[int, list[int]]]:
    """Rows that have pairs or are in groups, ascending, each with its earlier ones."""
    starts = np.flatnonzero(np.diff(alike.later, prepend=-1))
    ends = np.append(starts, len(alike.later))[1:]
    paired = dict(
        zip(
            alike.later[starts].tolist(),
            zip(starts.tolist(), ends.tolist(), strict=True),
            strict=True,
        )
    )
    for row in sorted({*paired, *inside}):
        begin, end = paired.get(row, (0, 0))
        yield row, alike.earlier[begin:end].tolist()
