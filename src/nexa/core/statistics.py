"""Intervals and tests for scores that come in clusters: bootstrap, Student's t, exact McNemar.

How a mean's uncertainty is found is told in `nexa.core.clusters`; this is which way is taken when.
docs/decisions/023 has the simulations that it was decided by, benchmarks/statistics.py runs them.

Source: McNemar 1947, doi:10.1007/BF02295996.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from nexa.core.clusters import CONFIDENCE, DECIMALS, RESAMPLES, Bounds, Clusters, check, kept
from nexa.core.errors import EvalError
from nexa.core.records import Interval

__all__ = ["CONFIDENCE", "DECIMALS", "RESAMPLES", "kept"]

POWER = 0.8
FEW_GROUPS = 8  # a mean over fewer is also held to Student's t
# 1: BCa alone, for means and differences alike. Records that were sealed so are derived again so.
EDITION = 2
EDITIONS = (2, 1)  # the newest first


@dataclass(frozen=True)
class Tested:
    """A difference with its interval, and how often chance alone would show one as large."""

    difference: Interval
    p: float


def interval(
    values: Sequence[float],
    groups: Sequence[str],
    bounds: Bounds = (0.0, 1.0),
    *,
    cautious: bool = False,
    edition: int = EDITION,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of `values` with a 95 % interval by cluster bootstrap.

    10,000 times as many groups as there are are drawn with replacement, with all their rows; the
    interval lies between two percentiles of the means of these draws. Which two: BCa corrects for
    bias and skew, and the tails are widened so that a normal sample's interval would be Student's.
    On simulated suites of 8 to 128 groups that covers the truth in 93 to 97 % of cases, in 92 to
    99 % where a model is nearly always right or wrong.

    Fewer than 8 groups say little about bias and skew: there, and if `cautious`, the interval also
    holds Student's, with the standard error by cluster. Where the groups do not differ, the draws
    know nothing: see `Clusters.unseen`. `bounds` are the least and the greatest value of a row.

    Raises:
        EvalError: no rows, groups that do not match, or a value outside `bounds` or not a number.
    """
    found = Clusters.of(values, groups, bounds, resamples)
    few = edition > 1 and found.groups < FEW_GROUPS
    return _told(found, len(values), both=cautious or few)


def paired_difference(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[str],
    bounds: Bounds = (0.0, 1.0),
    *,
    edition: int = EDITION,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of tuned - base on the same rows, with the interval that a verdict hangs on.

    It is the wider of two at either end, cluster bootstrap (BCa) and Student's t. The bootstrap
    alone is too sure of itself where a few rows changed, all of them one way, and where there are
    few groups; Student's t alone where differences are skewed. And it holds 0 while fewer than six
    groups changed: signs that fell by chance would all be alike one time in 16.

    Raises:
        EvalError: as `interval`, or sequences of different lengths.
    """
    found = _differences(base, tuned, groups, bounds, resamples)
    made = _told(found, len(base), both=edition > 1)
    return made if edition == 1 else _not_beyond(made, found.least_p)


def paired_test(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[str],
    bounds: Bounds = (0.0, 1.0),
    *,
    resamples: int = RESAMPLES,
) -> Tested:
    """As `paired_difference`, with the two-sided p of no difference.

    p is the level at which that interval would just reach 0: below 0.05 where the interval does
    not hold 0, and nowhere else.

    Raises:
        EvalError: as `paired_difference`.
    """
    found = _differences(base, tuned, groups, bounds, resamples)
    p = found.unseen_p() if found.unvaried else max(found.bca_p(), found.student_p())
    made = _not_beyond(_told(found, len(base), both=True), found.least_p)
    return Tested(made, kept(max(p, found.least_p)))


def holm(ps: Sequence[float]) -> list[float]:
    """Each p corrected for as many comparisons as there are (Holm 1979), in the order given."""
    adjusted = [0.0] * len(ps)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = kept(least)
    return adjusted


def mcnemar_p(better: int, worse: int) -> float:
    """Exact two-sided p of McNemar's test: `better` rows became right, `worse` became wrong.

    Twice the smaller tail of a fair coin thrown better + worse times, at most 1. It counts rows
    as independent; clusters make it too small, so no verdict hangs on it.
    """
    thrown = better + worse
    tail = sum(math.comb(thrown, heads) for heads in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**thrown)) if thrown else 1.0


def minimum_detectable(difference: Interval) -> float:
    """The smallest true difference that a suite like this would call one, four times in five.

    (z at 97.5 % + z at 80 %) standard errors, the standard error read off the interval.
    """
    z = float(ndtri(0.5 + CONFIDENCE / 2))
    standard_error = (difference.high - difference.low) / (2 * z)
    return kept((z + float(ndtri(POWER))) * standard_error)


def _differences(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[str],
    bounds: Bounds,
    resamples: int,
) -> Clusters:
    if len(base) != len(tuned):
        raise EvalError(
            "only scores of the same rows can be paired",
            found=f"{len(base)} and {len(tuned)} rows",
        )
    for values in (base, tuned):
        check(values, groups, bounds)
    width = bounds[1] - bounds[0]
    gains = [after - before for before, after in zip(base, tuned, strict=True)]
    return Clusters.of(gains, groups, (-width, width), resamples)


def _not_beyond(made: Interval, least_p: float) -> Interval:
    """The interval, stretched up to 0 where no exact test could say that it does not reach it."""
    if least_p < 1 - CONFIDENCE:
        return made
    return made.model_copy(update={"low": min(made.low, 0.0), "high": max(made.high, 0.0)})


def _told(found: Clusters, rows: int, *, both: bool) -> Interval:
    """The interval; `both`: wide enough for the bootstrap and for Student's t."""
    if found.unvaried:
        low, high = found.unseen()
    else:
        low, high = found.bca()
        if both:
            below, above = found.student()
            low, high = min(low, below), max(high, above)
    mean, low, high = kept(found.mean), kept(low), kept(high)
    return Interval(mean=mean, low=low, high=high, n=rows, groups=found.groups)
