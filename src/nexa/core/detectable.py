"""What a suite can show, told before anything is run: the smallest difference it finds.

A guess from the suite's shape, for nothing else is known yet: how far scores spread, how alike the
two models are and how alike the rows of a group. `nexa.core.statistics.minimum_detectable` tells it
of a comparison that was made.

Source: Bloom 1995, doi:10.1177/0193841X9501900504 (minimum detectable effects, Student's t);
Kish 1965, Survey Sampling (design effect).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import bdtr, stdtrit

from nexa.core.clusters import CONFIDENCE, Clusters, kept

POWER = 0.8
# Before a run: a model that is right half of the time, the widest that a score can spread.
SPREAD = 0.5
# How alike base and tuned are, row by row: then a difference spreads as far as one model's scores.
CORRELATION = 0.5
# How alike the differences of one group's rows are.
WITHIN_GROUPS = 0.1
# A change that any suite ought to show; one that cannot is told so.
PLAIN_CHANGE = 0.3
MOST_GROUPS = 10_000
# Signs that fell by chance are all alike in five groups one time in 16, in six one time in 32.
CHANGED_GROUPS = 6


def expected_detectable(
    counts: Sequence[int], spread: float = SPREAD, correlation: float = CORRELATION
) -> float:
    """The smallest true difference found four times in five, at most 1, by a suite of this shape.

    (t at 97.5 % + t at 80 %) standard errors, with as many degrees of freedom as groups of equal
    size that tell as much, less one; but at least what changes six groups four times in five, for
    with fewer no difference is called one. Fewer than six groups show nothing: 1.

    Args:
        counts: rows in each group.
        spread: standard deviation of one model's scores.
        correlation: between base and tuned, row by row.
    """
    rows = sum(counts)
    weight = sum(count**2 for count in counts) / rows  # rows in the group of a row, on average
    effect = 1 + (weight - 1) * WITHIN_GROUPS
    variance = 2 * (1 - correlation) * spread**2 * effect / rows
    by_error = _detectable(math.sqrt(variance), rows / weight - 1)
    return max(by_error, _changing(len(counts), rows / len(counts)))


def detectable_from(
    scores: Sequence[float], groups: Sequence[str], correlation: float = CORRELATION
) -> float | None:
    """The same, from the base model's own scores; None where they do not spread.

    Then nothing says how far the tuned model's will.

    Raises:
        EvalError: no scores, groups that do not match, or a score outside 0 to 1.
    """
    found = Clusters.of(scores, groups, (0.0, 1.0))
    if found.unvaried:
        return None
    error = found.standard_error * math.sqrt(2 * (1 - correlation))
    by_error = _detectable(error, found.freedom)
    if found.groups >= CHANGED_GROUPS and not set(scores) <= {0.0, 1.0}:
        return by_error  # where scores are not all or nothing, every group's changes a little
    return max(by_error, _changing(found.groups, len(scores) / found.groups))


def groups_for(effect: float, rows_a_group: float, spread: float = SPREAD) -> int:
    """How many groups, of as many rows each, would show a true difference of `effect`."""
    size = max(1, round(rows_a_group))
    low, high = CHANGED_GROUPS, MOST_GROUPS
    while low < high:  # more groups always show more
        middle = (low + high) // 2
        if expected_detectable([size] * middle, spread) <= effect:
            high = middle
        else:
            low = middle + 1
    return low


def tell(counts: Sequence[int], metric: str, detectable: float | None = None) -> str:
    """What a suite of this shape can show, in a sentence.

    Args:
        counts: rows in each group.
        metric: what the verdict will be drawn from.
        detectable: what it shows, where more is known than its shape.
    """
    least = expected_detectable(counts) if detectable is None else detectable
    rows, groups = sum(counts), len(counts)
    suite = f"{rows} row{'s' * (rows > 1)} in {groups} group{'s' * (groups > 1)}"
    if least <= PLAIN_CHANGE:
        shown = f"from about {least:.2f} on are shown four times in five"
        return f"{suite}: differences of {metric} {shown}"
    wanted = groups_for(PLAIN_CHANGE, rows / groups)
    if detectable is not None:  # the error falls with the square root of the groups
        wanted = max(wanted, math.ceil(groups * (least / PLAIN_CHANGE) ** 2))
    more = f"about {wanted * max(1, round(rows / groups))} rows in {wanted} equal groups would"
    return (
        f"{suite} cannot be relied on to show even a change of {metric} by {PLAIN_CHANGE}: {more}"
    )


def _changing(groups: int, rows_a_group: float) -> float:
    """The share of rows that must change, all one way, so that enough groups have one that does.

    In each group one of its rows at least; as many groups as that four times in five.
    """
    if groups < CHANGED_GROUPS:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        too_few = float(bdtr(CHANGED_GROUPS - 1, groups, 1 - (1 - share) ** rows_a_group))
        low, high = (low, share) if too_few <= 1 - POWER else (share, high)
    return kept(high)


def _detectable(standard_error: float, freedom: float) -> float:
    if freedom < 1:
        return 1.0
    quantiles = stdtrit(freedom, 0.5 + CONFIDENCE / 2) + stdtrit(freedom, POWER)
    return min(1.0, kept(float(quantiles) * standard_error))
