from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nexa.core import clusters
from nexa.core.clusters import Clusters, kept
from nexa.core.errors import EvalError

VALUES = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.25, 0.75, 1.0, 0.0, 1.0]
GROUPS = ["a", "a", "b", "b", "b", "c", "d", "d", "e", "f", "g", "g"]


def alone(values: list[float], bounds: tuple[float, float] = (-1.0, 1.0)) -> Clusters:
    """Every row a cluster of its own."""
    return Clusters.of(values, [f"{i:04}" for i in range(len(values))], bounds)


def test_the_draws_are_all_draws_in_equal_shares() -> None:
    """With four groups every one of the 4 ** 4 draws can be listed."""
    sums, counts = np.array([1.0, 1.0, 0.0, 1.5]), np.array([2.0, 1.0, 1.0, 2.0])
    drawn = Clusters(sums, counts, (0.0, 1.0)).drawn
    listed = [
        sums[list(draw)].sum() / counts[list(draw)].sum()
        for draw in itertools.product(range(4), repeat=4)
    ]
    assert len(drawn) == clusters.RESAMPLES
    wanted = {round(mean, 9): listed.count(mean) / 256 for mean in listed}
    for mean, share in wanted.items():
        found = np.mean(np.abs(drawn - mean) < 1e-9)
        # Five standard errors of a share of 10,000 draws.
        assert found == pytest.approx(share, abs=5 * math.sqrt(share / 10_000) + 0.003)


def test_the_order_of_rows_and_the_block_size_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Clusters.of(VALUES, GROUPS, (0.0, 1.0)).bca()
    order = np.random.default_rng(5).permutation(len(VALUES))
    shuffled = [VALUES[i] for i in order], [GROUPS[i] for i in order]
    assert Clusters.of(*shuffled, (0.0, 1.0)).bca() == made
    monkeypatch.setattr(clusters, "BLOCK_DRAWS", 1000)
    assert Clusters.of(VALUES, GROUPS, (0.0, 1.0)).bca() == made


def test_students_interval_and_p_are_scipys_where_rows_are_groups() -> None:
    values = np.random.default_rng(3).normal(0.1, 0.2, 30).tolist()
    expected = stats.ttest_1samp(values, 0.0)
    made = alone(values)
    low, high = expected.confidence_interval(0.95)
    assert made.student() == pytest.approx((low, high), abs=1e-12)
    assert made.student_p() == pytest.approx(expected.pvalue, abs=1e-12)


def test_students_interval_stays_within_what_a_row_can_have() -> None:
    assert Clusters.of([1.0, 1.0, 0.0], ["a", "b", "c"], (0.0, 1.0)).student() == (0.0, 1.0)


def test_groups_of_unequal_size_leave_fewer_degrees_of_freedom() -> None:
    equal = Clusters.of([0.0, 1.0] * 4, list("aabbccdd"), (0.0, 1.0))
    unequal = Clusters.of([0.0, 1.0] * 4, list("aaaaabcd"), (0.0, 1.0))
    assert equal.freedom == 3
    assert unequal.freedom == pytest.approx(64 / 28 - 1)


@pytest.mark.parametrize("seed", range(40))
def test_p_is_below_the_level_exactly_where_the_interval_does_not_hold_zero(seed: int) -> None:
    """Both ways, at the level of the interval; the mean lies anywhere around 2 standard errors."""
    random = np.random.default_rng(seed)
    shift = 0.1 * random.uniform(0, 2)
    values = np.clip(random.normal(shift, 0.4, 24), -1, 1)
    if seed % 2:  # many rows that did not change, as of a binary metric
        values = np.round(values)
    made = Clusters.of(values.tolist(), [str(i % 13) for i in range(24)], (-1.0, 1.0))
    for (low, high), p in ((made.bca(), made.bca_p()), (made.student(), made.student_p())):
        assert (kept(low) > 0 or kept(high) < 0) == (p < 0.05)


def test_p_says_where_an_interval_of_its_level_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval of confidence 1 - p ends at 0."""
    values = np.random.default_rng(8).normal(0.12, 0.5, 40).clip(-1, 1).tolist()
    p = alone(values).bca_p()
    assert 0.01 < p < 0.9
    monkeypatch.setattr(clusters, "CONFIDENCE", 1 - p)
    low, high = alone(values).bca()
    assert min(abs(low), abs(high)) < 1e-9


def test_a_difference_of_nothing_has_a_p_of_one() -> None:
    made = alone([0.5, -0.5, 0.25, -0.25])
    assert made.bca_p() == 1
    assert made.student_p() == 1


def test_p_is_the_same_for_the_difference_turned_round_but_for_the_draws() -> None:
    values = np.random.default_rng(4).normal(0.15, 0.4, 30).clip(-1, 1)
    up, down = alone(values.tolist()), alone((-values).tolist())
    assert up.bca_p() == pytest.approx(down.bca_p(), rel=0.05)
    assert up.student_p() == pytest.approx(down.student_p(), rel=1e-9)


def test_no_draw_beyond_zero_is_the_least_p_that_the_draws_can_tell() -> None:
    made = alone([0.4, 0.5, 0.6] * 10)
    assert made.bca_p() < 0.002
    assert alone([-0.4, -0.5, -0.6] * 10).bca_p() < 0.002


def test_where_draws_are_zero_the_last_of_them_counts() -> None:
    """One row of ten changed: a third of the draws are 0, so nothing is shown."""
    made = alone([0.0] * 9 + [1.0])
    low, _ = made.bca()
    assert low == 0
    assert made.bca_p() > 0.05
    turned = alone([0.0] * 9 + [-1.0])
    assert turned.bca()[1] == 0
    assert turned.bca_p() > 0.05


def test_equal_groups_tell_p_as_their_interval_does() -> None:
    """(1/2) ** n for n groups that all won: the interval holds 0 up to four, and no longer."""
    for n in range(2, 8):
        made = alone([1.0] * n)
        assert made.unseen_p() == pytest.approx(0.5**n)
        assert (made.unseen()[0] > 0) == (made.unseen_p() < 0.05)
        assert alone([-1.0] * n).unseen_p() == made.unseen_p()
    assert alone([0.0] * 5).unseen_p() == 1


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
        Clusters.of(values, groups, (0.0, 1.0))
