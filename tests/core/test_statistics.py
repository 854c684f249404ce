from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nexa.core import statistics
from nexa.core.errors import EvalError
from nexa.core.records import Interval
from nexa.core.statistics import interval, mcnemar_p, minimum_detectable, paired_difference

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


def test_the_draws_are_all_draws_in_equal_shares() -> None:
    """With four groups every one of the 4 ** 4 draws can be listed."""
    sums, counts = np.array([1.0, 1.0, 0.0, 1.5]), np.array([2.0, 1.0, 1.0, 2.0])
    drawn = np.concatenate(list(statistics._drawn_means(sums, counts)))
    listed = [
        sums[list(draw)].sum() / counts[list(draw)].sum()
        for draw in itertools.product(range(4), repeat=4)
    ]
    assert len(drawn) == statistics.RESAMPLES
    wanted = {round(mean, 9): listed.count(mean) / 256 for mean in listed}
    for mean, share in wanted.items():
        found = np.mean(np.abs(drawn - mean) < 1e-9)
        # Five standard errors of a share of 10,000 draws.
        assert found == pytest.approx(share, abs=5 * math.sqrt(share / 10_000) + 0.003)


def test_whole_groups_are_drawn_so_clustered_rows_know_less() -> None:
    spread = [0.0] * 20 + [1.0] * 20
    rows_alone = interval(spread, [str(i) for i in range(40)])
    four_groups = interval(spread, [str(i // 5) for i in range(40)])
    assert four_groups.high - four_groups.low > 1.8 * (rows_alone.high - rows_alone.low)


def test_the_order_of_rows_and_the_block_size_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = interval(VALUES, GROUPS)
    order = np.random.default_rng(5).permutation(len(VALUES))
    shuffled = interval([VALUES[i] for i in order], [GROUPS[i] for i in order])
    assert shuffled == made
    monkeypatch.setattr(statistics, "BLOCK_DRAWS", 1000)
    assert interval(VALUES, GROUPS) == made


def test_an_interval_is_the_same_everywhere() -> None:
    """A verifier on another machine must get this number from these rows."""
    assert interval(VALUES, GROUPS) == Interval(
        mean=0.625, low=0.362782654, high=0.844531482, n=12, groups=7
    )


@pytest.mark.parametrize(
    ("groups", "share", "correlation"),
    [(25, 0.5, 0.3), (25, 0.9, 0.3), (25, 0.95, 0.3), (10, 0.5, 0.3), (64, 0.9, 0.05)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch, groups: int, share: float, correlation: float
) -> None:
    """95 % of 400 seeded suites, less two standard errors of a share (2.2 %)."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random = np.random.default_rng(groups)
    covered = 0
    for _ in range(400):
        made = interval(*clustered(random, groups, share, correlation))
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
    assert paired_difference(base, VALUES, GROUPS) == interval(gains, GROUPS, (-1.0, 1.0))


def test_no_row_changed_is_no_evidence() -> None:
    made = paired_difference(VALUES, VALUES, GROUPS)
    assert made.mean == 0
    assert made.low < 0 < made.high


def test_every_row_won_is_evidence_from_five_groups_on() -> None:
    won = [paired_difference([0.0] * n, [1.0] * n, [str(i) for i in range(n)]) for n in range(3, 7)]
    assert [made.low > 0 for made in won] == [False, False, True, True]


def test_equal_models_are_rarely_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A/A: 200 seeded pairs of models of equal skill; at most 5 % may look different."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random = np.random.default_rng(7)
    different = 0
    for _ in range(200):
        groups = [str(i // 3) for i in range(64)]
        skill = np.repeat(random.beta(2, 2, 22), 3)[:64]
        base, tuned = ((random.random(64) < skill).astype(float).tolist() for _ in range(2))
        made = paired_difference(base, tuned, groups)
        different += not made.low <= 0 <= made.high
    assert different / 200 <= 0.05


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (0, 5), (7, 3), (10, 10), (52, 1)])
def test_mcnemar_is_the_two_sided_binomial_test(better: int, worse: int) -> None:
    thrown = better + worse
    expected = stats.binomtest(better, thrown).pvalue if thrown else 1.0
    assert mcnemar_p(better, worse) == pytest.approx(expected, rel=1e-9)


def test_the_minimum_detectable_difference_is_found_four_times_in_five(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random = np.random.default_rng(3)
    groups = [str(i) for i in range(100)]

    def trial(gain: float) -> Interval:
        changed = random.choice([-1.0, 0.0, 1.0], 100, p=[0.2 - gain / 2, 0.6, 0.2 + gain / 2])
        return interval(changed.tolist(), groups, (-1.0, 1.0))

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
