"""How rows are cut into slices, and which slices any other row belongs to.

A slice is told by what its rows have in common, not by their ids: the same cut is made in the
suite for analysis, in a pool, among training rows and in the suite for acceptance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from nexa.core.errors import UsageError, nearest
from nexa.core.records import Slice, WeaknessBody
from nexa.feedback.items import Item
from nexa.feedback.likeness import centres, nearest_centre

KINDS = ("domain", "tag", "length", "cluster")
ALL = "all"
ORDER = (*KINDS, ALL)


@dataclass(frozen=True)
class Cut:
    """What the rows of a slice have in common.

    `edge` of a length: `above` and `to`, in characters, null where there is no end; of a cluster:
    `words` with their weights. A domain or a tag is its value.
    """

    by: str
    value: str
    edge: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As rules and decisions call it: `domain=f_block`."""
        return f"{self.by}={self.value}"


WHOLE = Cut(ALL, "rows")


def cut(
    items: Sequence[Item], by: Sequence[str], *, length_bins: int, clusters: int, seed: int
) -> list[Cut]:
    """All cuts of these kinds through the rows; one that would hold all of them is none.

    Raises:
        UsageError: there is no such kind.
    """
    made: list[Cut] = []
    for kind in by:
        if kind == "domain":
            made += _valued(kind, [item.domain for item in items if item.domain], len(items))
        elif kind == "tag":
            made += _valued(kind, [tag for item in items for tag in item.tags], len(items))
        elif kind == "length":
            made += _lengths(items, length_bins)
        elif kind == "cluster":
            found = centres([item.asked for item in items], clusters, seed)
            made += [Cut(kind, centre.name, {"words": centre.words}) for centre in found]
        else:
            raise UsageError(
                f"rows cannot be cut by {kind!r}",
                found="known: " + ", ".join(KINDS),
                fix=nearest(kind, KINDS),
            )
    return made


def members(cuts: Sequence[Cut], items: Sequence[Item]) -> dict[str, list[int]]:
    """For each cut, by its name, the places of the rows that belong to it, ascending.

    A row belongs to the nearest of all clusters among `cuts`, so all of a suite's are given.
    """
    places: dict[str, list[int]] = {made.name: [] for made in cuts}
    clusters = [made for made in cuts if made.by == "cluster"]
    words = [made.edge["words"] for made in clusters]
    for at, item in enumerate(items):
        for made in cuts:
            if made.by != "cluster" and _holds(made, item):
                places[made.name].append(at)
        nearest_one = nearest_centre(item.asked, words)
        if nearest_one is not None:
            places[clusters[nearest_one].name].append(at)
    return places


def cuts_of(slices: Iterable[Slice]) -> list[Cut]:
    """The cuts of a record's slices, each once, in their order."""
    found: dict[str, Cut] = {}
    for one in slices:
        made = Cut(one.by, one.value, one.edge or {})
        found.setdefault(made.name, made)
    return list(found.values())


def _holds(made: Cut, item: Item) -> bool:
    if made.by == ALL:
        return True
    if made.by == "domain":
        return item.domain == made.value
    if made.by == "tag":
        return made.value in item.tags
    above, to = made.edge["above"], made.edge["to"]
    size = len(item.asked)
    return (above is None or size > above) and (to is None or size <= to)


def _valued(kind: str, values: Sequence[str], rows: int) -> list[Cut]:
    counts = Counter(values)
    return [Cut(kind, value) for value in sorted(counts) if counts[value] < rows]


def _lengths(items: Sequence[Item], bins: int) -> list[Cut]:
    """Bins of about equal numbers of rows, by the characters of what is asked."""
    if bins < 2 or not items:
        return []
    sizes = [len(item.asked) for item in items]
    shares = [number / bins for number in range(1, bins)]
    inner = {int(edge) for edge in np.quantile(sizes, shares, method="lower")}
    edges = sorted(edge for edge in inner if edge < max(sizes))
    ends: list[int | None] = [None, *edges, None]
    return [
        Cut("length", _told(above, to), {"above": above, "to": to})
        for above, to in pairwise(ends)
        if edges
    ]


def _told(above: int | None, to: int | None) -> str:
    """`to 140`, `141-170`, `from 171`: characters."""
    if above is None:
        return f"to {to}"
    return f"from {above + 1}" if to is None else f"{above + 1}-{to}"


def weak_members(body: WeaknessBody, items: Sequence[Item]) -> dict[str, list[int]]:
    """For each weak slice, the weakest first, the places of the rows that belong to it."""
    places = members(cuts_of(body.slices), items)
    weak = [f"{one.by}={one.value}" for one in body.slices if one.weak]
    return {name: places[name] for name in weak}
