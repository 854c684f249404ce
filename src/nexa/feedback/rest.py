"""A slice beside the rest of its suite: how far apart two means are that share no row.

Source: Zou and Donner 2008, doi:10.1002/sim.3095 (the interval of a difference from the intervals
of its two sides). It takes the sides as independent; where groups have rows on both sides, and
rows of a group are alike, that makes it wider than it need be, never narrower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import ndtr

from nexa.core.records import Interval
from nexa.core.statistics import holm, kept

Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Gap:
    """A slice minus the rest, with a 95 % interval and the two-sided p of no difference."""

    mean: float
    low: float
    high: float
    p: float
    rest: Interval


def gap(part: Interval, rest: Interval) -> Gap:
    """The difference of two means that share no row, from their intervals.

    p is read off the half of the interval that lies towards 0: below 0.05 where it does not reach
    it, and nowhere else.
    """
    mean = part.mean - rest.mean
    down = math.hypot(part.mean - part.low, rest.high - rest.mean)
    up = math.hypot(part.high - part.mean, rest.mean - rest.low)
    towards = up if mean < 0 else down
    p = 2 * float(ndtr(-Z * abs(mean) / towards)) if towards > 0 else float(mean == 0)
    return Gap(kept(mean), kept(mean - down), kept(mean + up), kept(p), rest)


def adjusted(ps: Mapping[str, float], kinds: Mapping[str, str]) -> dict[str, float]:
    """Each slice's p, corrected (Holm) for all slices of its kind.

    Not for all slices: other kinds cut the same rows again, and a further way of looking shall not
    hide what one found. Whoever acts on a weakness proves the gain on other rows.
    """
    found: dict[str, float] = {}
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name in ps if kinds[name] == kind]
        found |= dict(zip(names, holm([ps[name] for name in names]), strict=True))
    return found
