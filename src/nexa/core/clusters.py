"""Scores that come in clusters: how far their mean could be from the truth, in two ways.

A suite asks several questions about one thing (an element, a document); their scores are not
independent, so whole clusters are drawn, never rows. Everything here is a pure function of the
numbers given: the same rows give the same result on any machine, in any order, which is how a
published number is derived again by whoever verifies it.

Both ways give an interval and, turned round, the p of a mean of 0: the level at which the
interval just reaches 0. So an interval and its p never contradict each other.

Sources: Efron 1987, doi:10.1080/01621459.1987.10478410 (BCa); Hesterberg 2015,
doi:10.1080/00031305.2015.1089789 (expansion for small samples); Liang and Zeger 1986,
doi:10.1093/biomet/73.1.13 (variance by cluster); Kish 1965, Survey Sampling (effective number);
Fisher 1935, The Design of Experiments (flipping signs).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from nexa.core.errors import EvalError

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 20_240_229
# Sums of floats may differ in the last bits from one machine to the next; what is kept is this.
DECIMALS = 9
BLOCK_DRAWS = 1 << 20  # drawn at once: 8 MB an array
SAME = 1e-12  # two sums of the same numbers in another order are nearer than this

Floats = NDArray[np.float64]
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Clusters:
    """Values by cluster: their sums and how many they are, in the order of the clusters' names.

    `bounds` are the least and the greatest value a row can have.
    """

    sums: Floats
    counts: Floats
    bounds: Bounds
    resamples: int = RESAMPLES

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        groups: Sequence[str],
        bounds: Bounds,
        resamples: int = RESAMPLES,
    ) -> Clusters:
        """Rows, each with the name of its group.

        Raises:
            EvalError: no rows, groups that do not match, or a value outside `bounds` or no number.
        """
        check(values, groups, bounds)
        members: dict[str, list[float]] = {}
        for value, group in zip(values, groups, strict=True):
            members.setdefault(group, []).append(value)
        # Exact sums, whatever the order of the rows.
        summed = [math.fsum(members[group]) for group in sorted(members)]
        counts = [float(len(members[group])) for group in sorted(members)]
        return cls(np.array(summed), np.array(counts), bounds, resamples)

    @property
    def groups(self) -> int:
        """How many clusters."""
        return len(self.counts)

    @cached_property
    def mean(self) -> float:
        """Over the rows."""
        return float(self.sums.sum() / self.counts.sum())

    @cached_property
    def unvaried(self) -> bool:
        """Whether every cluster has the same mean: then draws know nothing."""
        return bool(np.ptp(self.sums / self.counts) < SAME)

    @cached_property
    def least_p(self) -> float:
        """The smallest p that any flipping of the groups' signs could give; groups at 0 have none.

        2 ** (1 - groups that are not 0): with five of them an exact two-sided test never says less
        than 0.06, however large the five are.
        """
        changed = int(np.count_nonzero(np.abs(self.sums) > SAME))
        return min(1.0, 2.0 ** (1 - changed))

    # -- where nothing varies ----------------------------------------------------------------

    def unseen(self) -> Bounds:
        """The interval when every group scored the same: what could be out there unseen.

        If a share p of all groups scored otherwise, the chance of meeting none in `groups` of them
        is (1 - p) ** groups; p is such that this is 5 %. That share could score anything in
        `bounds`. One group alone says next to nothing, and its interval says so.
        """
        share = 1 - (1 - CONFIDENCE) ** (1 / self.groups)
        low, high = self.bounds
        return self.mean - share * (self.mean - low), self.mean + share * (high - self.mean)

    def unseen_p(self) -> float:
        """The level at which `unseen` just reaches 0."""
        reach = -self.bounds[0] if self.mean > 0 else self.bounds[1]
        return float((reach / (reach + abs(self.mean))) ** self.groups)

    # -- bootstrap ---------------------------------------------------------------------------

    @cached_property
    def drawn(self) -> Floats:
        """The means of all draws of as many groups as there are."""
        return np.concatenate(list(self._drawn()))

    def _drawn(self) -> Iterator[Floats]:
        """Blocks of draws."""
        for chosen in draws(self.groups, self.resamples):
            yield self.sums[chosen].sum(axis=1) / self.counts[chosen].sum(axis=1)

    def bca(self) -> Bounds:
        """Between two percentiles of the draws' means: BCa, with a small sample's wider tails."""
        bias, skew = self._lean
        z = self._widened * float(stdtrit(self.groups - 1, 0.5 - CONFIDENCE / 2))

        def corrected(z: float) -> float:
            return float(ndtr(bias + (bias + z) / (1 - skew * (bias + z))))

        low, high = np.quantile(self.drawn, [corrected(z), corrected(-z)]).tolist()
        return low, high

    def bca_p(self) -> float:
        """The level at which `bca` just reaches 0, by going back the way that it went.

        Where not one draw reaches 0 its percentile is that of a normal tail: the outermost draw
        would be carried far inwards by the correction for skew, and a sure difference told as
        doubtful.
        """
        if abs(self.mean) < SAME:
            return 1.0
        drawn = np.sort(np.round(self.drawn, DECIMALS))
        # The outermost percentile that is 0, seen from the side that the mean is on.
        least = 0.5 / self.resamples
        u = float(ndtri(np.clip(_percentile_of_zero(drawn, self.mean > 0), least, 1 - least)))
        if drawn[0] > 0 or drawn[-1] < 0:
            far = abs(self.mean) / max(float(drawn.std()), SAME)
            u = math.copysign(max(abs(u), far), u)
        bias, skew = self._lean
        # A percentile beyond BCa's reach is reached at no level: the divisor stays above 0.
        z = (u - bias) / max(1 + skew * (u - bias), SAME) - bias
        t = z / self._widened * math.copysign(1.0, self.mean)
        return min(1.0, 2 * float(stdtr(self.groups - 1, t)))

    @property
    def _widened(self) -> float:
        return math.sqrt(self.groups / (self.groups - 1))

    @cached_property
    def _lean(self) -> tuple[float, float]:
        """BCa's two corrections: for the bias of the draws, and for skew."""
        # A draw may equal the mean, but for its last bit: half of those count as below.
        drawn, mean = self.drawn, self.mean
        below = (np.mean(drawn < mean - SAME) + np.mean(drawn < mean + SAME)) / 2
        bias = float(ndtri(np.clip(below, 1 / self.resamples, 1 - 1 / self.resamples)))
        # The mean without each group.
        without = (self.sums.sum() - self.sums) / (self.counts.sum() - self.counts)
        lean = without.mean() - without
        return bias, float((lean**3).sum() / (6 * (lean**2).sum() ** 1.5))

    # -- Student's t -------------------------------------------------------------------------

    def student(self) -> Bounds:
        """The mean and Student's t times its standard error, kept within `bounds`."""
        reach = -float(stdtrit(self.freedom, 0.5 - CONFIDENCE / 2)) * self.standard_error
        low, high = self.bounds
        return max(low, self.mean - reach), min(high, self.mean + reach)

    def student_p(self) -> float:
        """Two-sided, of a mean of 0."""
        return min(1.0, 2 * float(stdtr(self.freedom, -abs(self.mean) / self.standard_error)))

    @cached_property
    def standard_error(self) -> float:
        """Of the mean, by cluster."""
        apart = self.sums - self.mean * self.counts
        variance = (apart**2).sum() * self.groups / (self.groups - 1)
        return float(math.sqrt(variance) / self.counts.sum())

    @property
    def freedom(self) -> float:
        """Degrees of freedom: as many as clusters of equal size that would tell as much, less 1."""
        effective = float(self.counts.sum() ** 2 / (self.counts**2).sum())
        return max(1.0, effective - 1)


def draws(groups: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.intp]]:
    """Which groups each draw has, `[draws, groups]` a block: as many as there are, with repeats.

    Numpy promises that a bit generator's raw numbers stay the same from version to version, and
    not that its distributions do; a remainder of 64 random bits favours no group by 1e-15.
    """
    left = resamples
    bits = np.random.PCG64(SEED)
    while left:
        some = min(left, max(1, BLOCK_DRAWS // groups))
        chosen = (bits.random_raw(some * groups) % np.uint64(groups)).astype(np.intp)
        yield chosen.reshape(some, groups)
        left -= some


def check(values: Sequence[float], groups: Sequence[str], bounds: Bounds) -> None:
    """Refuse what no interval can be drawn over.

    Raises:
        EvalError: no rows, groups that do not match, or a value outside `bounds` or not a number.
    """
    if not values or len(values) != len(groups):
        raise EvalError(
            "an interval needs rows, and a group for each",
            found=f"{len(values)} values, {len(groups)} groups",
        )
    low, high = bounds
    for row, value in enumerate(values):
        if not low <= value <= high:  # NaN is not either
            raise EvalError(
                f"the score of row {row} is not one", found=f"{value}, not in [{low:g}, {high:g}]"
            )


def kept(value: float) -> float:
    """A number as records have it."""
    return round(value, DECIMALS) + 0.0  # + 0.0: no negative zero


def _percentile_of_zero(drawn: Floats, above: bool) -> float:
    """Which share of the sorted draws lies below 0, read as `numpy.quantile` reads it.

    Several draws may be 0: the last of them counts where the mean lies above, else the first.
    """
    last = len(drawn) - 1
    first_not_below = int(np.searchsorted(drawn, 0.0, side="left"))
    first_above = int(np.searchsorted(drawn, 0.0, side="right"))
    if first_above > first_not_below:  # there are draws of 0
        return (first_above - 1 if above else first_not_below) / last
    if first_above in (0, len(drawn)):
        return float(first_above > 0)
    under, over = drawn[first_above - 1], drawn[first_above]
    return float((first_above - 1 + under / (under - over)) / last)
