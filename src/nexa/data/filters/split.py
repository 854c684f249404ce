"""Which rows are trained on and which are held out.

A row's side is drawn from its own digest (its group's, if it has one), never from its position or
from other rows: adding rows moves none. Rows that belong together stay together: a row takes the
side of its group, or of the earlier near-duplicate it resembles. A row that resembles rows of
both sides would join them; it is left out.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nexa.core.events import emit
from nexa.core.overlap import memberships
from nexa.data.rows import Reject, Row

BOTH_SIDES = "alike to both sides of the split"

# Changes only if the way of drawing does: it would move every row.
SALT = "nexa split 1"


@dataclass(frozen=True)
class Placed:
    """A row with its split and its near-duplicate cluster (the row id of its first row)."""

    row: Row
    split: str
    cluster: str


def place(
    rows: Sequence[Row],
    *,
    eval_fraction: float,
    only: str | None = None,
    settled: Sequence[tuple[str, str]] = (),
) -> tuple[list[Placed], list[Reject]]:
    """Give each row a cluster and a split; with `only` those go into one that no other row binds.

    `settled` has the split and cluster of the first rows, which were placed before: they keep
    both, whatever the later rows are like.

    When the share is so small that no row draws it, the one that came nearest is held out, and
    that is told: this one row goes back as soon as another draws the share.
    """
    alike = memberships([row.example.text for row in rows])
    if only is None and eval_fraction > 0:
        placed, rejects, drawn = _place(rows, alike, eval_fraction, only, settled)
        if len(drawn) < 2 or min(drawn) < eval_fraction:
            return placed, rejects
        emit("note", text=f"no row draws the held-out share {eval_fraction}: the nearest is taken")
        eval_fraction = math.nextafter(min(drawn), 1)
    placed, rejects, _ = _place(rows, alike, eval_fraction, only, settled)
    return placed, rejects


def draw(row: Row) -> float:
    """A number from 0 to 1 that only the row's own group or digest decides."""
    key = f"{SALT}:{row.content.group or row.digest}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _place(
    rows: Sequence[Row],
    alike: list[tuple[int, ...]],
    eval_fraction: float,
    only: str | None,
    settled: Sequence[tuple[str, str]],
) -> tuple[list[Placed], list[Reject], list[float]]:
    """Also what was drawn by the rows that no earlier one binds."""
    placed: list[Placed] = []
    rejects: list[Reject] = []
    drawn: list[float] = []
    by_group: dict[str, str] = {}
    by_cluster: dict[int, set[str]] = defaultdict(set)
    for index, (row, heads) in enumerate(zip(rows, alike, strict=True)):
        bound = {split for head in heads for split in by_cluster[head]}
        bound |= {by_group[row.group]} if row.group in by_group else set()
        if index < len(settled):
            split, cluster = settled[index]
        elif len(bound) > 1:
            rejects.append(_reject(row, [rows[head] for head in heads]))
            continue
        else:
            cluster = settled[heads[0]][1] if heads[0] < len(settled) else rows[heads[0]].row_id
            if bound:
                split = bound.pop()
            else:
                drawn.append(draw(row))
                split = only or ("eval" if drawn[-1] < eval_fraction else "train")
        by_group.setdefault(row.group, split)
        by_cluster[heads[0]].add(split)
        placed.append(Placed(row, split, cluster))
    return placed, rejects, drawn


def _reject(row: Row, alike: list[Row]) -> Reject:
    origins = ", ".join(other.line.origin for other in alike)
    return Reject(row.line, BOTH_SIDES, f"alike to {origins}; group {row.group}")
