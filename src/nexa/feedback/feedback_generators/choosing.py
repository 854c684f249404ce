"""Which rows of a pool are taken: those of weak slices, or any."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from nexa.core.events import emit
from nexa.core.identity import sha256_bytes
from nexa.feedback.items import Item


def weak_rows(
    items: Sequence[Item], weak: Mapping[str, Sequence[int]], wanted: int, seed: int
) -> list[int]:
    """Places of rows of weak slices: the slices in turn, and within each its groups in turn.

    `weak` has the places of each weak slice's rows, the weakest slice first. A slice without rows
    is told.
    """
    turns = deque((name, deque(in_turn(items, places, seed))) for name, places in weak.items())
    for name, places in weak.items():
        if not places:
            emit("note", text=f"the pool has no row of {name} that was not trained on yet")
    chosen: dict[int, None] = {}
    while turns and len(chosen) < wanted:
        name, left = turns.popleft()
        while left and left[0] in chosen:
            left.popleft()
        if left:
            chosen[left.popleft()] = None
            turns.append((name, left))
    return list(chosen)


def any_rows(
    items: Sequence[Item], weak: Mapping[str, Sequence[int]], wanted: int, seed: int
) -> list[int]:
    """Places of any rows, the control: what as many rows bring that nobody aimed."""
    del weak  # where it is, is what the control does not know
    order = sorted(range(len(items)), key=lambda at: _drawn(items[at].id, seed))
    return order[:wanted]


def in_turn(items: Sequence[Item], places: Sequence[int], seed: int) -> list[int]:
    """The places in an order drawn by the seed: the first row of every group, then the second."""
    groups: dict[str, deque[int]] = defaultdict(deque)
    for at in sorted(places, key=lambda at: _drawn(items[at].id, seed)):
        groups[items[at].group].append(at)
    waiting = deque(sorted(groups, key=lambda group: _drawn(group, seed)))
    found = []
    while waiting:
        group = waiting.popleft()
        found.append(groups[group].popleft())
        if groups[group]:
            waiting.append(group)
    return found


def _drawn(name: str, seed: int) -> str:
    return sha256_bytes(f"{seed}:{name}".encode())
