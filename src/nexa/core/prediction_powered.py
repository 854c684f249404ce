"""A mean of judged scores, corrected by the few that people gave, with an interval that says so.

A judge errs, and errs in a direction. Where people labelled some answers, the judge's error is
measured there and taken off the mean over all; the interval then covers what people would have
said, however wrong the judge is, for it rests on the labelled rows alone that the correction is
right. A judge that agrees with people makes it narrower than their labels alone would.

Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic 2023, doi:10.1126/science.adi6000
(prediction-powered inference); Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453 (PPI++, how far
to trust the judge).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from nexa.core.clusters import CONFIDENCE, RESAMPLES, Bounds, check, kept
from nexa.core.errors import EvalError
from nexa.core.records import Interval
from nexa.core.statistics import interval

# Below it the trust in the judge cannot be estimated from as many: people's labels stand alone.
FEW_LABELLED = 16

Floats = NDArray[np.float64]


def corrected_mean(
    judged_unlabelled: Sequence[float | None],
    unlabelled_groups: Sequence[str],
    judged_labelled: Sequence[float | None],
    human_labelled: Sequence[float],
    labelled_groups: Sequence[str],
    bounds: Bounds = (0.0, 1.0),
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean that people would give, from their labels of some rows and a judge's of all.

    The mean of human - trust * judge over the labelled rows, plus trust * the mean of judge over
    the others. `trust`, from 0 to 1, is what makes the variance least (by cluster); a judge that
    says nothing gets 0. A score that the judge did not give counts as its mean, in both places.

    Fewer than 16 labelled groups, no others, or a judge that always says the same: people's labels
    alone, as `nexa.core.statistics.interval`; `uses_judge` tells. The labelled rows must have been
    drawn as the others were, by chance. `n` and `groups` are those of the labelled rows, which the
    interval rests on.

    Args:
        judged_unlabelled: the judge's scores of rows without a human label; None: missing.
        unlabelled_groups: the cluster of each; the same names mean the same clusters below.
        judged_labelled: the judge's scores of the labelled rows.
        human_labelled: people's scores of these.
        labelled_groups: the cluster of each.
        bounds: least and greatest score.
        resamples: draws an interval; see `nexa.core.clusters`.

    Raises:
        EvalError: no labelled rows, sequences that do not match, or a score outside `bounds`.
    """
    _check(judged_unlabelled, unlabelled_groups, judged_labelled, labelled_groups, bounds)
    people = interval(human_labelled, labelled_groups, bounds, resamples=resamples)
    if not uses_judge(judged_unlabelled, judged_labelled, labelled_groups):
        return people
    near, far = _filled(judged_labelled, judged_unlabelled)
    human = np.array(human_labelled, dtype=np.float64)
    parts = _Parts(human, near, labelled_groups, far, unlabelled_groups)
    trust = parts.trust()
    if trust == 0:
        return people
    low, high = bounds
    rest = interval(
        (human - trust * near).tolist(),
        labelled_groups,
        (low - trust * high, high - trust * low),
        cautious=True,  # the judge is often right, and what is left then rare and far off
        resamples=resamples,
    )
    others = interval(far.tolist(), unlabelled_groups, bounds, resamples=resamples)
    made = _added(rest, others, trust, parts.widening(trust))
    mean, least, most = (kept(min(max(end, low), high)) for end in made)
    return Interval(mean=mean, low=least, high=most, n=people.n, groups=people.groups)


def uses_judge(
    judged_unlabelled: Sequence[float | None],
    judged_labelled: Sequence[float | None],
    labelled_groups: Sequence[str],
) -> bool:
    """Whether there are labels enough, and scores that differ, to let the judge have a say."""
    given = {score for score in (*judged_unlabelled, *judged_labelled) if score is not None}
    enough = len(set(labelled_groups)) >= FEW_LABELLED
    return enough and bool(judged_unlabelled) and len(given) > 1


class _Parts:
    """What each cluster adds to the error: of people's mean, and of the judge's correction.

    A cluster may have labelled rows and others; then both parts of it err together.
    """

    def __init__(
        self,
        human: Floats,
        near: Floats,
        labelled_groups: Sequence[str],
        far: Floats,
        unlabelled_groups: Sequence[str],
    ) -> None:
        names = {g: i for i, g in enumerate(sorted({*labelled_groups, *unlabelled_groups}))}
        here = np.array([names[group] for group in labelled_groups])
        there = np.array([names[group] for group in unlabelled_groups])
        self.labelled = len(set(labelled_groups))
        self.people = np.bincount(here, human - human.mean(), len(names)) / len(human)
        self.near = np.bincount(here, near - near.mean(), len(names)) / len(near)
        self.far = np.bincount(there, far - far.mean(), len(names)) / len(far)

    def trust(self) -> float:
        """The share of the judge's correction that makes the sum of squares least, 0 to 1."""
        correction = self.near - self.far
        spread = float((correction**2).sum())
        if spread == 0:
            return 0.0
        return kept(min(max(float((self.people * correction).sum()) / spread, 0.0), 1.0))

    def widening(self, trust: float) -> float:
        """By what an interval grows that takes both means for independent and trust for known.

        Clusters with both kinds of rows make the means depend on each other. Estimating trust
        costs one degree of freedom: Student's t of one fewer, and a variance that many rows less.
        """
        rest = self.people - trust * self.near
        apart = float((rest**2).sum() + ((trust * self.far) ** 2).sum())
        together = float(((rest + trust * self.far) ** 2).sum())
        free = self.labelled - 1
        tail = 0.5 - CONFIDENCE / 2
        fewer = float(stdtrit(free - 1, tail) / stdtrit(free, tail)) * math.sqrt(free / (free - 1))
        return fewer * math.sqrt(max(1.0, together / apart)) if apart else fewer


def _added(
    rest: Interval, others: Interval, trust: float, widening: float
) -> tuple[float, float, float]:
    """The sum of two means and its interval, from theirs: each end by the squares of their reach.

    The method of variance estimates recovery (Zou and Donner 2008, doi:10.1002/sim.3095): it keeps
    what the two intervals know of skew.
    """
    mean = rest.mean + trust * others.mean
    below = math.hypot(rest.mean - rest.low, trust * (others.mean - others.low))
    above = math.hypot(rest.high - rest.mean, trust * (others.high - others.mean))
    return mean, mean - widening * below, mean + widening * above


def _filled(near: Sequence[float | None], far: Sequence[float | None]) -> tuple[Floats, Floats]:
    """The judge's scores, the missing ones as its mean: one rule for both, so it biases neither."""
    given = [score for score in (*near, *far) if score is not None]
    usual = math.fsum(given) / len(given)
    labelled, others = (
        np.array([usual if score is None else score for score in scores], dtype=np.float64)
        for scores in (near, far)
    )
    return labelled, others


def _check(
    judged_unlabelled: Sequence[float | None],
    unlabelled_groups: Sequence[str],
    judged_labelled: Sequence[float | None],
    labelled_groups: Sequence[str],
    bounds: Bounds,
) -> None:
    """Refuse scores without a group, and those outside `bounds`; people's are looked at later."""
    for judged, groups in (
        (judged_unlabelled, unlabelled_groups),
        (judged_labelled, labelled_groups),
    ):
        if len(judged) != len(groups):
            raise EvalError(
                "each judged row needs a group",
                found=f"{len(judged)} scores, {len(groups)} groups",
            )
        given = [(s, group) for s, group in zip(judged, groups, strict=True) if s is not None]
        if given:
            check([score for score, _ in given], [group for _, group in given], bounds)
