"""Measures of agreement, each with a bootstrap interval, or with the reason why there is none.

The values are those of scikit-learn (Cohen's kappa), scipy (Spearman) and the package krippendorff
(alpha). Their intervals come from 1,000 draws of whole clusters, for which the same formulas are
worked out on all draws at once, from how often each row was drawn.

Sources: Cohen 1968, doi:10.1037/h0026256 (weighted kappa); Krippendorff 2011, Computing
Krippendorff's Alpha-Reliability (ordinal differences); Efron and Tibshirani 1993 (percentiles).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nexa.core.clusters import CONFIDENCE, SEED, kept
from nexa.core.records import Figure
from nexa.eval.rubrics.rubric import LEVELS

DRAWS = 1_000
FEWEST_DRAWS = 0.5  # of all: an interval over fewer would leave the hard ones out
LEAST_ROWS = 2
ONE_ROW = "one row says nothing of agreement"
NO_ROWS = "no row has levels of both"
NO_INTERVAL = "most draws leave the measure undefined: no interval"

Floats = NDArray[np.float64]
Ratings = Sequence[Sequence[float | None]]
"""Of each rater (first axis) the level of each row, None where there is none."""


def kappa(
    judged: Sequence[int], people: Sequence[int], groups: Sequence[str], *, quadratic: bool
) -> Figure:
    """Cohen's kappa of whole levels from 1 to 5, row by row."""
    if why := _too_few(len(judged)):
        return _none(len(judged), why)
    if len({*judged, *people}) == 1:
        return _none(len(judged), f"all levels of both are {judged[0]}: chance explains as much")
    from sklearn.metrics import cohen_kappa_score

    weights = "quadratic" if quadratic else None
    value = cohen_kappa_score(judged, people, labels=list(LEVELS), weights=weights)
    cells = np.zeros((len(judged), len(LEVELS), len(LEVELS)))
    cells[np.arange(len(judged)), np.array(judged) - 1, np.array(people) - 1] = 1
    steps = np.subtract.outer(LEVELS, LEVELS).astype(float)
    penalty = steps**2 if quadratic else (steps != 0).astype(float)

    def drawn(times: Floats) -> Floats:
        seen = np.tensordot(times, cells, axes=1)
        expected = np.einsum("di,dj->dij", seen.sum(axis=2), seen.sum(axis=1))
        expected /= times.sum(axis=1)[:, None, None]
        return 1 - _ratio((seen * penalty).sum(axis=(1, 2)), (expected * penalty).sum(axis=(1, 2)))

    return _figure(float(value), groups, drawn)


def spearman(judged: Sequence[float], people: Sequence[float], groups: Sequence[str]) -> Figure:
    """Spearman's correlation of ranks; equal levels share their mean rank."""
    if why := _too_few(len(judged)):
        return _none(len(judged), why)
    for whose, levels in (("the judge", judged), ("people", people)):
        if len(set(levels)) == 1:
            return _none(len(judged), f"{whose} gave every row {levels[0]:g}: there is no order")
    from scipy.stats import spearmanr

    value = spearmanr(judged, people).statistic
    a, b = np.array(judged, dtype=float), np.array(people, dtype=float)

    def drawn(times: Floats) -> Floats:
        size = times.sum(axis=1, keepdims=True)
        first, second = (_ranks(levels, times) - (size + 1) / 2 for levels in (a, b))
        both = (times * first * second).sum(axis=1)
        apart = (times * first**2).sum(axis=1) * (times * second**2).sum(axis=1)
        return _ratio(both, np.sqrt(apart))

    return _figure(float(value), groups, drawn)


def alpha(ratings: Ratings, groups: Sequence[str]) -> Figure:
    """Krippendorff's alpha for ordered levels; rows with one rating or none say nothing."""
    found = np.array([[np.nan if v is None else v for v in rater] for rater in ratings])
    paired = (~np.isnan(found)).sum(axis=0) >= LEAST_ROWS
    rows = int(paired.sum())
    if why := _too_few(rows):
        return _none(rows, why)
    found, groups = found[:, paired], [g for g, keep in zip(groups, paired, strict=True) if keep]
    domain = np.unique(found[~np.isnan(found)])
    if len(domain) == 1:
        return _none(rows, f"all levels are {domain[0]:g}: chance explains as much")
    from krippendorff import alpha as value_of

    value = value_of(found, level_of_measurement="ordinal", value_domain=domain)
    pairs = _coincidences(found, domain)

    def drawn(times: Floats) -> Floats:
        seen = np.tensordot(times, pairs, axes=1)
        totals = seen.sum(axis=2)
        below = np.cumsum(totals, axis=1)
        # Ordinal: what lies between two values, with half of each of them.
        between = below[:, None, :] - below[:, :, None]
        between += (totals[:, :, None] - totals[:, None, :]) / 2
        apart = between**2
        expected = np.einsum("di,dj->dij", totals, totals)
        expected /= np.maximum(totals.sum(axis=1) - 1, 1)[:, None, None]
        return 1 - _ratio((seen * apart).sum(axis=(1, 2)), (expected * apart).sum(axis=(1, 2)))

    return _figure(float(value), groups, drawn)


def _too_few(rows: int) -> str:
    return "" if rows >= LEAST_ROWS else (ONE_ROW if rows else NO_ROWS)


def _none(rows: int, why: str) -> Figure:
    return Figure(value=None, low=None, high=None, n=rows, why=why)


def _figure(value: float, groups: Sequence[str], drawn: Callable[[Floats], Floats]) -> Figure:
    """A value and the percentiles of its draws; draws without a value are left out."""
    values = drawn(_times_drawn(groups))
    values = values[np.isfinite(values)]
    low = high = None
    if len(values) >= FEWEST_DRAWS * DRAWS:
        tail = (1 - CONFIDENCE) / 2
        low, high = (kept(float(end)) for end in np.quantile(values, [tail, 1 - tail]))
    why = "" if low is not None else NO_INTERVAL
    return Figure(value=kept(value), low=low, high=high, n=len(groups), why=why)


def _times_drawn(groups: Sequence[str]) -> Floats:
    """[DRAWS, rows]: how often each row is in each draw of as many groups as there are."""
    names = {name: i for i, name in enumerate(sorted(set(groups)))}
    size = len(names)
    bits = np.random.PCG64(SEED)
    chosen = (bits.random_raw(DRAWS * size) % np.uint64(size)).astype(np.intp).reshape(DRAWS, size)
    times = np.zeros((DRAWS, size))
    np.add.at(times, (np.arange(DRAWS)[:, None], chosen), 1)
    return times[:, [names[group] for group in groups]]


def _ranks(levels: Floats, times: Floats) -> Floats:
    """[draws, rows]: the mean rank of each row's level among the rows that were drawn."""
    smaller = times @ (levels[:, None] < levels[None, :]).astype(float)
    equal = times @ (levels[:, None] == levels[None, :]).astype(float)
    ranks: Floats = smaller + (equal + 1) / 2
    return ranks


def _coincidences(found: Floats, domain: Floats) -> Floats:
    """[rows, values, values]: pairs of ratings of a row; each rating counts one."""
    counts = (found[:, :, None] == domain).sum(axis=0).astype(float)
    pairs = np.einsum("ri,rj->rij", counts, counts)
    at = np.arange(len(domain))
    pairs[:, at, at] -= counts
    weighted: Floats = pairs / (counts.sum(axis=1) - 1)[:, None, None]
    return weighted


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotients, NaN where nothing is below."""
    safe = np.where(below > 0, below, 1.0)
    ratios: Floats = np.where(below > 0, above / safe, np.nan)
    return ratios
