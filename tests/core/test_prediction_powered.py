from __future__ import annotations

import numpy as np
import pytest

from benchmarks.intervals import judged
from nexa.core.errors import EvalError
from nexa.core.prediction_powered import FEW_LABELLED, corrected_mean, uses_judge
from nexa.core.statistics import interval

TRUTH = 0.6


def draw(
    case: str, seed: int, labelled: int = 24, others: int = 100
) -> tuple[tuple[list[float | None], list[str]], tuple[list[float | None], list[float], list[str]]]:
    """The judge's scores and groups of rows without labels, and of those with."""
    random = np.random.default_rng(seed)
    near, human, groups = judged(random, case, TRUTH, labelled, "labelled")
    far, _, far_groups = judged(random, case, TRUTH, others, "other")
    return (far, far_groups), (near, human, groups)


@pytest.mark.parametrize(
    "case",
    ["good", "biased", "hard rows too high", "noise", "constant", "contrary", "misses hard rows"],
)
def test_the_corrected_interval_holds_the_truth(case: str) -> None:
    """160 seeded draws a judge, 1,120 in all; benchmarks/intervals.py does 1,000 a row."""
    held, wider = 0, []
    for seed in range(160):
        (far, far_groups), (near, human, groups) = draw(case, seed)
        made = corrected_mean(far, far_groups, near, human, groups, resamples=500)
        people = interval(human, groups, resamples=500)
        held += made.low <= TRUTH <= made.high
        wider.append((made.high - made.low) / (people.high - people.low))
    assert held / 160 >= 0.9
    assert np.mean(wider) <= 1.05
    if case in ("good", "biased"):
        assert np.mean(wider) < 0.7


def test_a_bias_is_taken_off() -> None:
    far, near, human, groups, far_groups = [], [], [], [], []
    random = np.random.default_rng(0)
    for i in range(200):
        level = random.integers(0, 4) / 4
        (near if i < 40 else far).append(float(level + 0.25))
        (groups if i < 40 else far_groups).append(str(i))
        human += [float(level)] if i < 40 else []
    made = corrected_mean(far, far_groups, near, human, groups)
    assert made.mean == pytest.approx(np.mean(far) - 0.25, abs=0.03)
    assert (made.n, made.groups) == (40, 40)


def test_few_labels_stand_alone() -> None:
    (far, far_groups), (near, human, groups) = draw("good", 1, labelled=FEW_LABELLED - 1)
    assert corrected_mean(far, far_groups, near, human, groups) == interval(human, groups)
    assert not uses_judge(far, near, groups)


@pytest.mark.parametrize("case", ["constant", "contrary"])
def test_a_judge_that_says_nothing_true_has_no_say(case: str) -> None:
    (far, far_groups), (near, human, groups) = draw(case, 2)
    assert corrected_mean(far, far_groups, near, human, groups) == interval(human, groups)


def test_without_other_rows_labels_stand_alone() -> None:
    _, (near, human, groups) = draw("good", 3)
    assert corrected_mean([], [], near, human, groups) == interval(human, groups)


def test_a_judge_that_gave_nothing_has_no_say() -> None:
    (far, far_groups), (near, human, groups) = draw("good", 4)
    nothing: list[float | None] = [None] * len(far)
    made = corrected_mean(nothing, far_groups, [None] * len(near), human, groups)
    assert made == interval(human, groups)


def test_scores_that_cancel_within_every_group_have_no_say() -> None:
    """The judge differs within groups and not between them: no cluster's error can be lessened."""
    groups = [str(i // 2) for i in range(40)]
    near, human = [0.0, 1.0] * 20, [float(i % 3 == 0) for i in range(40)]
    far_groups = [f"far{i // 2}" for i in range(40)]
    assert uses_judge(near, near, groups)
    assert corrected_mean(near, far_groups, near, human, groups) == interval(human, groups)


def test_a_perfect_judge_who_says_one_thing_of_all_others() -> None:
    human = [float(i % 2) for i in range(20)]
    groups = [str(i) for i in range(20)]
    others = [f"far{i}" for i in range(50)]
    made = corrected_mean([0.5] * 50, others, human, human, groups)
    assert made.mean == 0.5
    assert 0 <= made.low < 0.5 < made.high <= 1


def test_groups_with_both_kinds_of_rows_err_together() -> None:
    """Half of each group labelled: the interval knows that the other half is like it."""
    random = np.random.default_rng(5)
    level = random.integers(0, 5, 40) / 4
    human = level.tolist()
    near = np.clip(level + random.choice([-0.25, 0.25], 40), 0, 1).tolist()
    far = np.clip(level + random.choice([-0.25, 0.25], 40), 0, 1).tolist()
    names = [str(i) for i in range(40)]
    together = corrected_mean(far, names, near, human, names)
    apart = corrected_mean(far, [f"far{name}" for name in names], near, human, names)
    assert together.low <= together.mean <= together.high
    assert together != apart


def test_levels_have_bounds_of_their_own() -> None:
    (far, far_groups), (near, human, groups) = draw("good", 6)
    by_level = [[None if s is None else 1 + 4 * s for s in scores] for scores in (far, near)]
    levels = corrected_mean(
        by_level[0], far_groups, by_level[1], [1 + 4 * h for h in human], groups, (1.0, 5.0)
    )
    unit = corrected_mean(far, far_groups, near, human, groups)
    for level, share in (
        (levels.mean, unit.mean),
        (levels.low, unit.low),
        (levels.high, unit.high),
    ):
        assert level == pytest.approx(1 + 4 * share, abs=1e-6)


def test_scores_without_a_group_or_outside_the_bounds_are_refused() -> None:
    (far, far_groups), (near, human, groups) = draw("good", 7)
    with pytest.raises(EvalError, match="each judged row needs a group"):
        corrected_mean(far, far_groups[1:], near, human, groups)
    with pytest.raises(EvalError, match="is not one"):
        corrected_mean([7.0, *far[1:]], far_groups, near, human, groups)
    with pytest.raises(EvalError, match="an interval needs rows"):
        corrected_mean(far, far_groups, near, human[1:], groups)
