"""Which rows are trained on and which are held out.

A row's side is drawn from its own digest (its group's, if it has one), never from its position or
from other rows: adding rows moves none. Rows that belong together stay together: a row takes the
side of its group, or of the earlier near-duplicate it resembles. A row that resembles rows of
both sides would join them; it is left out.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nexa.core.events import emit
from nexa.core.near.corpus import Memberships
from nexa.data.keys import Codes
from nexa.data.rows import Row

BOTH_SIDES = "alike to both sides of the split"

# Changes only if the way of drawing does: it would move every row.
SALT = "nexa split 1"

SPLITS = ("train", "eval")
OUT, TORN = -1, -2

Sides = NDArray[np.int8]  # [N]: an index of SPLITS, OUT of a row that is not placed, or TORN


@dataclass(frozen=True)
class Placing:
    """What rows are placed by. Of all rows, also of those that are out already.

    `alike` has heads of the rows that are placed and of no other one; `groups` is equal for rows
    of a group. `settled` has the sides of the first rows, which were placed before: they keep
    them, whatever the later rows are like. With `only`, rows that no other one binds go there.
    """

    alike: Memberships
    groups: Codes
    draws: NDArray[np.float64]
    eval_fraction: float
    only: str | None = None
    settled: Sides | None = None


def place(placing: Placing) -> Sides:
    """The side of each row.

    When the share is so small that no row draws it, the one that came nearest is held out, and
    that is told: this one row goes back as soon as another draws the share.
    """
    sides, drawn = _place(placing)
    share = placing.eval_fraction
    if placing.only is None and share > 0 and len(drawn) > 1 and drawn.min() >= share:
        emit("note", text=f"no row draws the held-out share {share}: the nearest is taken")
        nearest = math.nextafter(float(drawn.min()), 1)
        sides, _ = _place(replace(placing, eval_fraction=nearest))
    return sides


def draw(row: Row) -> float:
    """A number from 0 to 1 that only the row's own group or digest decides."""
    key = f"{SALT}:{row.content.group or row.digest}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _place(placing: Placing) -> tuple[Sides, NDArray[np.float64]]:
    """Also what was drawn by the rows that no earlier one binds."""
    alike = placing.alike
    sides = np.full(len(placing.groups), OUT, dtype=np.int8)
    alone, together = _apart(placing)
    sides[alone] = _drawn(placing, alone)
    free = []
    by_group: dict[int, int] = {}
    by_cluster: dict[int, set[int]] = {}
    settled = 0 if placing.settled is None else len(placing.settled)
    for row in together.tolist():
        heads, group = alike.of(row), int(placing.groups[row])
        bound = {side for head in heads for side in by_cluster.get(head, ())}
        bound |= {by_group[group]} if group in by_group else set()
        if row < settled and placing.settled is not None:
            side = int(placing.settled[row])
        elif len(bound) > 1:
            sides[row] = TORN
            continue
        elif bound:
            side = bound.pop()
        else:
            free.append(row)
            side = int(_drawn(placing, np.array([row]))[0])
        by_group.setdefault(group, side)
        by_cluster.setdefault(heads[0], set()).add(side)
        sides[row] = side
    drew = np.concatenate([alone[alone >= settled], np.array(free, dtype=np.int64)])
    return sides, placing.draws[drew]


def _apart(placing: Placing) -> tuple[Codes, Codes]:
    """Rows that nothing binds to another one, and the others; both in their order."""
    alike, groups = placing.alike, placing.groups
    counts = np.diff(alike.offsets)
    rows = np.flatnonzero(counts)
    named = np.bincount(alike.heads, minlength=len(groups))
    mates = np.bincount(groups[rows], minlength=1)
    alone = (counts[rows] == 1) & (named[rows] == 1) & (mates[groups[rows]] == 1)
    # Its own head and named once: a row that is like an earlier one is not named by itself.
    alone &= alike.heads[alike.offsets[rows]] == rows
    return rows[alone], rows[~alone]


def _drawn(placing: Placing, rows: Codes) -> Sides:
    """Where rows go that no other one binds, or where they were before."""
    if placing.only is not None:
        found = np.full(len(rows), SPLITS.index(placing.only), dtype=np.int8)
    else:
        found = (placing.draws[rows] < placing.eval_fraction).astype(np.int8)
    if placing.settled is not None:
        before = rows < len(placing.settled)
        found[before] = placing.settled[rows[before]]
    return found
