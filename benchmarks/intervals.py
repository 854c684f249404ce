"""Whether Nexa's intervals hold what they say: simulated suites of which the truth is known.

    python benchmarks/intervals.py [--draws 2000] [--resamples 10000] [--json FILE]

Five tables, all seeded:

- **A/A**: two models of equal skill. How often the paired difference is called improved, or worse;
  nominal is 2.5 % each. Beside it what the bootstrap alone (edition 1) would have called.
- **Coverage** of the mean of one model's scores: the share of intervals that hold the truth.
- **Coverage of a difference** that is there.
- **Corrected by labels** (prediction-powered): coverage and width, beside people's labels alone.
- **Power**: how often a difference as large as the one told before the run is found; 80 % is said.

Suites have 2 to 128 groups, of one row or of unequal sizes (1 + geometric, mean 3.3). The
questions of a group are alike: their chance of a right answer is drawn from a beta distribution
(intra-group correlation 0.2).

All suites of a table's row are computed at once, with the draws of `nexa.core.clusters`; the first
few are computed by it, too, and the program stops where the two differ.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from nexa.core.clusters import CONFIDENCE, RESAMPLES, SEED, Bounds, Clusters
from nexa.core.detectable import CHANGED_GROUPS, expected_detectable
from nexa.core.prediction_powered import corrected_mean
from nexa.core.statistics import FEW_GROUPS, interval

Floats = NDArray[np.float64]
ALIKE = 0.2  # intra-group correlation
NOISE = 0.25  # of a continuous score within a group, and half as much between groups
CHECKED = 3  # suites of each row that `Clusters` computes, too
BLOCK = 500  # suites at once
SIZES = ("one", "unequal")
GROUPS = (8, 16, 26, 64, 128)
SHARES = (0.02, 0.1, 0.5, 0.9, 0.98)
A_A = ("binary 0.05", "binary 0.3", "binary 0.5", "continuous", "levels")
JUDGES = (
    "good",
    "biased",
    "hard rows too high",
    "noise",
    "constant",
    "contrary",
    "misses hard rows",
)


@dataclass(frozen=True)
class Suites:
    """Simulated suites: sums of scores and rows by group, [suites, groups]."""

    sums: Floats
    counts: Floats
    bounds: Bounds

    @property
    def of_differences(self) -> bool:
        """Whether the values are what a model has more than another."""
        return self.bounds[0] < 0


@dataclass(frozen=True)
class Row:
    """One row of a table: what was simulated, and shares of the suites, or widths."""

    table: str
    case: str
    groups: int
    sizes: str
    draws: int
    figures: dict[str, float]


def main() -> None:
    """Run every simulation, print the tables, and write them."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--draws", type=int, default=2000, help="suites a row (default 2000)")
    options.add_argument(
        "--resamples", type=int, default=RESAMPLES, help=f"an interval (default {RESAMPLES})"
    )
    options.add_argument("--json", type=Path, help="write the figures here")
    asked = options.parse_args()
    began = time.monotonic()
    rows: list[Row] = []
    for table in TABLES:
        made = table(asked.draws, asked.resamples)
        rows += made
        print(f"\n{told(made)}", flush=True)
    took = time.monotonic() - began
    print(f"\n{asked.draws} suites a row, {asked.resamples} resamples an interval, {took:.0f} s")
    if asked.json:
        kept = {"draws": asked.draws, "resamples": asked.resamples, "rows": list(map(asdict, rows))}
        asked.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def told(rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    figures = list(rows[0].figures)
    lines = [
        f"**{rows[0].table}**\n",
        f"| case | groups | sizes | {' | '.join(figures)} |",
        f"|---|---|---|{'---|' * len(figures)}",
    ]
    for row in rows:
        cells = " | ".join(f"{row.figures[name]:.3f}" for name in figures)
        lines.append(f"| {row.case} | {row.groups} | {row.sizes} | {cells} |")
    return "\n".join(lines)


# -- tables --------------------------------------------------------------------------------------


def equal_models(draws: int, resamples: int, groups: Sequence[int] = (3, 5, *GROUPS)) -> list[Row]:
    """How often two models of equal skill are told apart."""
    rows = []
    for case in A_A:
        for size in groups:
            for sizes in SIZES:
                suites = differences(case, size, sizes, draws)
                low, high = intervals(suites, resamples, both=True)
                alone, above = intervals(suites, resamples, both=False)
                figures = {
                    "improved": float(np.mean(low > 0)),
                    "worse": float(np.mean(high < 0)),
                    "of the first 200": float((low[:200] > 0).sum()),
                    "bootstrap alone: improved": float(np.mean(alone > 0)),
                    "bootstrap alone: worse": float(np.mean(above < 0)),
                }
                rows.append(Row("A/A", case, size, sizes, draws, figures))
    return rows


def means(draws: int, resamples: int, groups: Sequence[int] = (3, 5, *GROUPS)) -> list[Row]:
    """How often the interval of a model's mean score holds the true mean."""
    cases: list[tuple[str, float]] = [(f"right {share:g}", share) for share in SHARES]
    cases.append(("continuous", 0.5))
    rows = []
    for case, truth in cases:
        for size in groups:
            for sizes in SIZES:
                suites = scores(case, size, sizes, draws)
                low, high = intervals(suites, resamples, both=size < FEW_GROUPS)
                rows.append(_covered("coverage of a mean", case, sizes, truth, suites, low, high))
    return rows


def gains(draws: int, resamples: int, groups: Sequence[int] = (5, *GROUPS)) -> list[Row]:
    """How often the interval of a difference that is there holds it."""
    rows = []
    for case, before, after in (("0.1 to 0.6", 0.1, 0.6), ("0.8 to 0.9", 0.8, 0.9)):
        for size in groups:
            for sizes in SIZES:
                suites = _changed(before, after, size, sizes, draws)
                low, high = intervals(suites, resamples, both=True)
                truth = after - before
                rows.append(
                    _covered("coverage of a difference", case, sizes, truth, suites, low, high)
                )
    return rows


def labels(draws: int, resamples: int, labelled: Sequence[int] = (8, 16, 24, 40)) -> list[Row]:
    """A judge corrected by people's labels: coverage of the truth, and how wide."""
    resamples, draws = min(resamples, 2000), min(draws, 1000)  # one by one, so fewer
    rows = []
    for case in JUDGES:
        for groups in labelled:
            rows.append(_corrected(case, groups, draws, resamples))
    return rows


def power(draws: int, resamples: int, groups: Sequence[int] = GROUPS) -> list[Row]:
    """How often a difference is found that is as large as was said before the run."""
    rows = []
    for size in groups:
        for sizes in SIZES:
            random = _random("power", size, sizes)
            counts = _sizes(random, size, sizes, 1)[0].astype(int)
            gain = expected_detectable(counts.tolist())
            suites = _correlated(random, counts, gain, draws)
            low, _ = intervals(suites, resamples, both=True)
            found = {"difference": gain, "found": float(np.mean(low > 0))}
            rows.append(Row("power", "as assumed", size, sizes, draws, found))
    return rows


TABLES: tuple[Callable[[int, int], list[Row]], ...] = (equal_models, means, gains, labels, power)


def _covered(
    table: str, case: str, sizes: str, truth: float, suites: Suites, low: Floats, high: Floats
) -> Row:
    draws, groups = suites.sums.shape
    figures = {
        "covered": float(np.mean((low - 1e-9 <= truth) & (truth <= high + 1e-9))),
        "truth above": float(np.mean(high + 1e-9 < truth)),
        "truth below": float(np.mean(low - 1e-9 > truth)),
        "width": float(np.mean(high - low)),
    }
    return Row(table, case, groups, sizes, draws, figures)


# -- intervals, many at once ---------------------------------------------------------------------


def intervals(suites: Suites, resamples: int, *, both: bool) -> tuple[Floats, Floats]:
    """Lower and upper ends of the interval of every suite; the first few are checked."""
    made = []
    for start in range(0, len(suites.sums), BLOCK):
        block = slice(start, start + BLOCK)
        made.append(
            _block(suites.sums[block], suites.counts[block], suites.bounds, resamples, both)
        )
    low, high = (np.concatenate(ends) for ends in zip(*made, strict=True))
    if both and suites.of_differences:
        few = (np.abs(suites.sums) > 1e-12).sum(axis=1) < CHANGED_GROUPS
        low, high = np.where(few, np.minimum(low, 0), low), np.where(few, np.maximum(high, 0), high)
    for i in range(min(CHECKED, len(low))):
        wanted = one(Clusters(suites.sums[i], suites.counts[i], suites.bounds, resamples), both)
        if not np.allclose((low[i], high[i]), wanted, rtol=0, atol=1e-7):
            raise SystemExit(f"suite {i}: {low[i], high[i]}, by nexa.core.clusters {wanted}")
    return low, high


def one(found: Clusters, both: bool) -> Bounds:
    """What `nexa.core.statistics` makes of one suite."""
    low, high = found.unseen() if found.unvaried else found.bca()
    if both and not found.unvaried:
        below, above = found.student()
        low, high = min(low, below), max(high, above)
    if both and found.bounds[0] < 0 and found.least_p >= 1 - CONFIDENCE:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high


def _block(
    sums: Floats, counts: Floats, bounds: Bounds, resamples: int, both: bool
) -> tuple[Floats, Floats]:
    """As `one`, for [suites, groups]."""
    weights = _weights(sums.shape[1], resamples)
    drawn = np.sort((sums @ weights) / (counts @ weights), axis=1)
    mean = sums.sum(axis=1) / counts.sum(axis=1)
    low, high = _bca(drawn, mean, sums, counts)
    if both:
        below, above = _student(mean, sums, counts, bounds)
        low, high = np.minimum(low, below), np.maximum(high, above)
    means = sums / counts
    for i in np.flatnonzero(np.ptp(means, axis=1) < 1e-12):
        low[i], high[i] = Clusters(sums[i], counts[i], bounds).unseen()
    return low, high


@cache
def _weights(groups: int, resamples: int) -> Floats:
    """[groups, resamples]: how often each draw of `nexa.core.clusters` has each group."""
    raw = np.random.PCG64(SEED).random_raw(resamples * groups) % np.uint64(groups)
    chosen = raw.astype(np.intp).reshape(resamples, groups)
    flat = chosen + np.arange(resamples)[:, None] * groups
    drawn = np.bincount(flat.ravel(), minlength=resamples * groups).reshape(resamples, groups)
    return np.ascontiguousarray(drawn.T.astype(float))


def _bca(drawn: Floats, mean: Floats, sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """The two percentiles of sorted draws, [suites, resamples]."""
    resamples, groups = drawn.shape[1], sums.shape[1]
    z = math.sqrt(groups / (groups - 1)) * float(stdtrit(groups - 1, 0.025))
    below = (drawn < mean[:, None] - 1e-12).mean(axis=1)
    below = (below + (drawn < mean[:, None] + 1e-12).mean(axis=1)) / 2
    bias = ndtri(np.clip(below, 1 / resamples, 1 - 1 / resamples))
    total, rows = sums.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True)
    without = (total - sums) / (rows - counts)
    lean = without.mean(axis=1, keepdims=True) - without
    with np.errstate(invalid="ignore"):  # where nothing varies, which is seen to later
        skew = (lean**3).sum(axis=1) / (6 * (lean**2).sum(axis=1) ** 1.5)
    ends = []
    for side in (z, -z):
        share = np.nan_to_num(ndtr(bias + (bias + side) / (1 - skew * (bias + side))))
        place = share * (resamples - 1)
        under = place.astype(int)
        over = np.minimum(under + 1, resamples - 1)
        line = np.arange(len(drawn))
        ends.append(drawn[line, under] + (place - under) * (drawn[line, over] - drawn[line, under]))
    return ends[0], ends[1]


def _student(mean: Floats, sums: Floats, counts: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    groups, rows = sums.shape[1], counts.sum(axis=1)
    apart = ((sums - mean[:, None] * counts) ** 2).sum(axis=1) * groups / (groups - 1)
    freedom = np.maximum(rows**2 / (counts**2).sum(axis=1) - 1, 1.0)
    reach = -stdtrit(freedom, 0.025) * np.sqrt(apart) / rows
    return np.maximum(mean - reach, bounds[0]), np.minimum(mean + reach, bounds[1])


# -- simulated suites ----------------------------------------------------------------------------


def scores(case: str, groups: int, sizes: str, draws: int) -> Suites:
    """One model's scores: right or wrong with a mean of `right SHARE`, or continuous around 1/2."""
    random = _random(case, groups, sizes)
    counts = _sizes(random, groups, sizes, draws)
    if case == "continuous":
        mean = 0.5 + random.uniform(-NOISE, NOISE, counts.shape)
        spread = random.normal(0, NOISE / 2 / np.sqrt(counts))
        return Suites(counts * np.clip(mean + spread, 0, 1), counts, (0.0, 1.0))
    skill = _skill(random, float(case.split()[1]), counts.shape)
    return Suites(random.binomial(counts.astype(int), skill).astype(float), counts, (0.0, 1.0))


def differences(case: str, groups: int, sizes: str, draws: int) -> Suites:
    """Two models of equal skill on the same questions: their scores' differences."""
    random = _random(case, groups, sizes)
    counts = _sizes(random, groups, sizes, draws)
    whole = counts.astype(int)
    if case == "continuous":  # one model does better here, the other there, by group and by row
        group = random.normal(0, NOISE / 4, counts.shape) * counts
        return Suites(
            group + random.normal(0, NOISE, counts.shape) * np.sqrt(counts), counts, (-1, 1)
        )
    if case == "levels":  # 1 to 5, four steps of a quarter
        skill = _skill(random, 0.6, counts.shape)
        first, second = (random.binomial(4 * whole, skill) / 4 for _ in range(2))
    else:
        skill = _skill(random, float(case.split()[1]), counts.shape)
        first, second = (random.binomial(whole, skill).astype(float) for _ in range(2))
    return Suites(second - first, counts, (-1.0, 1.0))


def _changed(before: float, after: float, groups: int, sizes: str, draws: int) -> Suites:
    """A model that is right in another share of the cases than before."""
    random = _random(f"{before} {after}", groups, sizes)
    counts = _sizes(random, groups, sizes, draws)
    ranks = random.random(counts.shape)  # what is hard for one is hard for the other
    first, second = (
        random.binomial(counts.astype(int), _quantile(share, ranks)) for share in (before, after)
    )
    return Suites((second - first).astype(float), counts, (-1.0, 1.0))


def _correlated(
    random: np.random.Generator, counts: NDArray[np.int_], gain: float, draws: int
) -> Suites:
    """Differences as `nexa.core.detectable` assumes them: two models that are right half the time.

    A row's difference is -1, 0 or 1 with a variance of 1/4, alike within a group to 0.1.
    """
    shape = (draws, len(counts))
    group = random.normal(0, math.sqrt(0.1 * 0.25), shape)
    sums = np.zeros(shape)
    for row in range(int(counts.max())):
        wanted = np.clip(gain + group, -1, 1)
        changed = random.random(shape) < np.maximum(0.25, np.abs(wanted))
        up = random.random(shape) < (1 + wanted / np.maximum(0.25, np.abs(wanted))) / 2
        sums += np.where(row < counts, changed * np.where(up, 1.0, -1.0), 0.0)
    return Suites(sums, np.broadcast_to(counts.astype(float), shape).copy(), (-1.0, 1.0))


def _random(case: str, groups: int, sizes: str) -> np.random.Generator:
    return np.random.default_rng([*case.encode(), groups, len(sizes)])


def _sizes(random: np.random.Generator, groups: int, sizes: str, draws: int) -> Floats:
    shape = (draws, groups)
    if sizes == "one":
        return np.ones(shape)
    return 1.0 + random.geometric(0.3, shape) - 1 * (random.random(shape) < 0.5)


def _skill(random: np.random.Generator, share: float, shape: tuple[int, ...]) -> Floats:
    """The chance of a right answer in each group."""
    scale = (1 - ALIKE) / ALIKE
    return random.beta(share * scale, (1 - share) * scale, shape)


def _quantile(share: float, ranks: Floats) -> Floats:
    from scipy.special import betaincinv

    scale = (1 - ALIKE) / ALIKE
    found: Floats = betaincinv(share * scale, (1 - share) * scale, ranks)
    return found


# -- judges --------------------------------------------------------------------------------------


def _corrected(case: str, labelled: int, draws: int, resamples: int) -> Row:
    random = _random(case, labelled, "labels")
    truth, held, alone, widths = 0.6, 0, 0, []
    for _ in range(draws):
        near, near_human, near_groups = judged(random, case, truth, labelled, "labelled")
        far, _, far_groups = judged(random, case, truth, 100, "other")
        made = corrected_mean(far, far_groups, near, near_human, near_groups, resamples=resamples)
        people = interval(near_human, near_groups, resamples=resamples)
        held += made.low <= truth <= made.high
        alone += people.low <= truth <= people.high
        widths.append((made.high - made.low, people.high - people.low))
    width, width_alone = np.mean(widths, axis=0)
    figures = {
        "covered": held / draws,
        "people alone": alone / draws,
        "width": float(width),
        "width of people alone": float(width_alone),
    }
    return Row("corrected by labels", case, labelled, "1 to 4", draws, figures)


def judged(
    random: np.random.Generator, case: str, truth: float, groups: int, name: str
) -> tuple[list[float | None], list[float], list[str]]:
    """A judge's scores, people's, and the groups: five levels whose mean is `truth`."""
    counts = random.integers(1, 5, groups)
    skill = np.repeat(_skill(random, truth, (groups,)), counts)
    human = random.binomial(4, skill) / 4
    rows = len(human)
    says = {
        "good": lambda: human + random.choice([-0.25, 0, 0, 0, 0.25], rows),
        "biased": lambda: human + random.choice([0, 0.25, 0.25, 0.5], rows),
        "hard rows too high": lambda: np.where(skill < 0.5, 0.75, human),
        "noise": lambda: random.integers(0, 5, rows) / 4,
        "constant": lambda: np.full(rows, 0.75),
        "contrary": lambda: 1 - human,
        "misses hard rows": lambda: human,
    }[case]()
    scores: list[float | None] = np.clip(says, 0, 1).tolist()
    if case == "misses hard rows":
        scores = [None if hard else s for s, hard in zip(scores, skill < 0.3, strict=True)]
    return scores, human.tolist(), [f"{name}{g}" for g in np.repeat(np.arange(groups), counts)]


if __name__ == "__main__":
    main()
