from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nexa.core.errors import EvalError
from nexa.core.records import Interval
from nexa.core.statistics import (
    holm,
    interval,
    mcnemar_p,
    minimum_detectable,
    paired_difference,
    paired_test,
)

VALUES = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.25, 0.75, 1.0, 0.0, 1.0]
GROUPS = ["a", "a", "b", "b", "b", "c", "d", "d", "e", "f", "g", "g"]


def clustered(
    random: np.random.Generator, groups: int, share: float, correlation: float
) -> tuple[list[float], list[str]]:
    """Right or wrong answers, one to four a group, whose groups have shares of their own."""
    a, b = (p * (1 - correlation) / correlation for p in (share, 1 - share))
    values, names = [], []
    for group, p in enumerate(random.beta(a, b, groups)):
        rows = int(random.integers(1, 5))
        values += (random.random(rows) < p).astype(float).tolist()
        names += [f"g{group}"] * rows
    return values, names


def test_the_mean_is_over_rows_and_the_interval_holds_it() -> None:
    made = interval(VALUES, GROUPS)
    assert made.mean == pytest.approx(sum(VALUES) / len(VALUES))
    assert made.low < made.mean < made.high
    assert (made.n, made.groups) == (12, 7)


def test_the_interval_is_scipys_bca_when_groups_are_rows_and_many() -> None:
    """scipy knows no clusters and widens no tail: at 300 groups that is a difference of 1 %."""
    random = np.random.default_rng(2)
    values = (random.random(300) ** 3).tolist()
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=random
    ).confidence_interval
    made = interval(values, [str(i) for i in range(300)])
    assert made.low == pytest.approx(expected.low, abs=0.004)
    assert made.high == pytest.approx(expected.high, abs=0.004)


def test_whole_groups_are_drawn_so_clustered_rows_know_less() -> None:
    spread = [0.0] * 20 + [1.0] * 20
    rows_alone = interval(spread, [str(i) for i in range(40)])
    four_groups = interval(spread, [str(i // 5) for i in range(40)])
    assert four_groups.high - four_groups.low > 1.8 * (rows_alone.high - rows_alone.low)


def test_an_interval_is_the_same_everywhere() -> None:
    """A verifier on another machine must get this number from these rows, by either edition."""
    assert interval(VALUES, GROUPS, edition=1) == Interval(
        mean=0.625, low=0.362782654, high=0.844531482, n=12, groups=7
    )
    now = interval(VALUES, GROUPS)
    assert now == Interval(mean=0.625, low=0.362782654, high=0.863499818, n=12, groups=7)
    assert now == interval(VALUES, GROUPS, cautious=True, edition=1)


def test_from_eight_groups_on_an_interval_is_the_bootstraps() -> None:
    values, groups = [*VALUES, 0.5], [*GROUPS, "h"]
    assert interval(values, groups) == interval(values, groups, edition=1)
    assert interval(values, groups) != interval(values, groups, cautious=True)


@pytest.mark.parametrize(
    ("groups", "share", "correlation"),
    [(25, 0.5, 0.3), (25, 0.9, 0.3), (25, 0.95, 0.3), (10, 0.5, 0.3), (64, 0.9, 0.05)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    groups: int, share: float, correlation: float
) -> None:
    """95 % of 400 seeded suites, less two standard errors of a share (2.2 %)."""
    random = np.random.default_rng(groups)
    covered = 0
    for _ in range(400):
        made = interval(*clustered(random, groups, share, correlation), resamples=1000)
        covered += made.low <= share <= made.high
    assert covered / 400 >= 0.928


def test_one_group_says_next_to_nothing() -> None:
    made = interval([1.0, 1.0, 0.0, 1.0], ["a"] * 4)
    assert made.mean == 0.75
    assert made.low == pytest.approx(0.75 - 0.95 * 0.75)
    assert made.high == pytest.approx(0.75 + 0.95 * 0.25)


def test_equal_groups_leave_room_for_what_was_not_seen() -> None:
    """Where nothing varies the exact bound is known: no failure in n, upper 95 % 1 - 0.05^(1/n)."""
    made = interval([0.0] * 64, [str(i) for i in range(64)])
    assert (made.mean, made.low) == (0.0, 0.0)
    assert made.high == pytest.approx(stats.beta.ppf(0.95, 1, 64), abs=1e-8)
    full = interval([1.0] * 64, [str(i) for i in range(64)])
    assert full.high == 1.0
    assert full.low == pytest.approx(1 - made.high)


def test_equal_groups_cover_too() -> None:
    """A true share of 3 % in 20 groups mostly shows none and must be held."""
    random = np.random.default_rng(0)
    groups = [str(i) for i in range(20)]
    covered = 0
    for _ in range(300):
        made = interval((random.random(20) < 0.03).astype(float).tolist(), groups)
        covered += made.low <= 0.03 <= made.high
    assert covered / 300 >= 0.95


def test_a_paired_difference_is_the_interval_of_the_differences() -> None:
    base = [value / 2 for value in VALUES]
    gains = [value - half for value, half in zip(VALUES, base, strict=True)]
    made = paired_difference(base, VALUES, GROUPS)
    assert made == interval(gains, GROUPS, (-1.0, 1.0), cautious=True)
    older = paired_difference(base, VALUES, GROUPS, edition=1)
    assert older == interval(gains, GROUPS, (-1.0, 1.0), edition=1)
    assert made.low <= older.low < older.high <= made.high
    assert paired_test(base, VALUES, GROUPS).difference == made


def test_no_row_changed_is_no_evidence() -> None:
    made = paired_difference(VALUES, VALUES, GROUPS)
    assert made.mean == 0
    assert made.low < 0 < made.high


def test_every_row_won_is_evidence_from_six_groups_on() -> None:
    won = [paired_difference([0.0] * n, [1.0] * n, [str(i) for i in range(n)]) for n in range(4, 8)]
    assert [made.low > 0 for made in won] == [False, False, True, True]


def test_equal_models_are_rarely_told_apart() -> None:
    """A/A: 200 seeded pairs of models of equal skill; at most 5 % may look different."""
    random = np.random.default_rng(7)
    different = 0
    for _ in range(200):
        groups = [str(i // 3) for i in range(64)]
        skill = np.repeat(random.beta(2, 2, 22), 3)[:64]
        base, tuned = ((random.random(64) < skill).astype(float).tolist() for _ in range(2))
        made = paired_difference(base, tuned, groups, resamples=1000)
        different += not made.low <= 0 <= made.high
    assert different / 200 <= 0.05


def test_a_few_rows_that_all_changed_for_the_better_are_not_yet_evidence() -> None:
    """Five of 64: a fair coin falls so one time in 16. The bootstrap alone calls it a gain."""
    groups = [str(i) for i in range(64)]
    five, six = ([1.0] * won + [0.0] * (64 - won) for won in (5, 6))
    assert paired_difference([0.0] * 64, five, groups, edition=1).low > 0
    made = paired_test([0.0] * 64, five, groups)
    assert (made.difference.low, made.p) == (0, 2 / 2**5)
    lost = paired_test(five, [0.0] * 64, groups)
    assert (lost.difference.high, lost.p) == (0, 2 / 2**5)
    more = paired_test([0.0] * 64, six, groups)
    assert more.difference.low > 0
    assert more.p == 2 / 2**6


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_p_and_interval_never_contradict_each_other(gain: float) -> None:
    random = np.random.default_rng(int(gain * 100))
    for _ in range(10):
        base, names = clustered(random, 12, 0.4, 0.3)
        tuned = [float(value or random.random() < gain) for value in base]
        made = paired_test(base, tuned, names, resamples=1000)
        holds = made.difference.low <= 0 <= made.difference.high
        assert holds == (made.p >= 0.05)


@pytest.mark.parametrize("seed", range(40))
def test_nor_do_they_where_nearly_every_row_was_won(seed: int) -> None:
    dice = np.random.default_rng(seed)
    counts = dice.integers(1, 5, dice.integers(7, 27))
    groups = [str(group) for group, count in enumerate(counts) for _ in range(count)]
    won = (dice.random(len(groups)) < 0.95).astype(float).tolist()
    found = paired_test([0.0] * len(groups), won, groups, resamples=2_000)
    assert (found.difference.low > 0) == (found.p < 0.05)


def test_p_is_about_that_of_the_exact_test_by_flipping_signs() -> None:
    """All 2 ** 10 ways in which the groups' gains could have fallen."""
    signs = np.array(list(itertools.product((1, -1), repeat=10)))
    groups, ratios = [str(i) for i in range(10)], []
    for seed in range(20):
        gains = np.random.default_rng(seed).normal(0.1, 0.2, 10).clip(-1, 1)
        exact = np.mean(np.abs(signs @ gains) >= abs(gains.sum()) - 1e-12)
        made = paired_test([0.0] * 10, gains.tolist(), groups, (-1.0, 1.0))
        ratios.append(made.p / exact)
    assert min(ratios) > 0.7
    assert np.median(ratios) == pytest.approx(1, abs=0.4)


def test_every_comparison_more_makes_a_p_larger() -> None:
    """Holm: the smallest p times how many there are, the next times one fewer, never falling."""
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm([0.04, 0.001, 0.03, 0.9]) == pytest.approx([0.09, 0.004, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (0, 5), (7, 3), (10, 10), (52, 1)])
def test_mcnemar_is_the_two_sided_binomial_test(better: int, worse: int) -> None:
    thrown = better + worse
    expected = stats.binomtest(better, thrown).pvalue if thrown else 1.0
    assert mcnemar_p(better, worse) == pytest.approx(expected, rel=1e-9)


def test_the_minimum_detectable_difference_is_found_four_times_in_five() -> None:
    random = np.random.default_rng(3)
    groups = [str(i) for i in range(100)]

    def trial(gain: float) -> Interval:
        changed = random.choice([-1.0, 0.0, 1.0], 100, p=[0.2 - gain / 2, 0.6, 0.2 + gain / 2])
        return interval(changed.tolist(), groups, (-1.0, 1.0), resamples=1000)

    least = minimum_detectable(trial(0.0))
    assert least == pytest.approx((1.96 + 0.8416) * math.sqrt(0.4 / 100), rel=0.2)
    found = sum(trial(least).low > 0 for _ in range(300))
    assert found / 300 == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], [], "0 values, 0 groups"),
        ([1.0], ["a", "b"], "1 values, 2 groups"),
        ([0.0, 1.5], ["a", "b"], "the score of row 1"),
        ([math.nan], ["a"], "nan, not in"),
    ],
)
def test_what_is_no_score_is_refused(values: list[float], groups: list[str], message: str) -> None:
    with pytest.raises(EvalError, match=message):
        interval(values, groups)


def test_only_scores_of_the_same_rows_are_paired() -> None:
    with pytest.raises(EvalError, match="3 and 2 rows"):
        paired_difference([0.0] * 3, [1.0] * 2, ["a"] * 3)
