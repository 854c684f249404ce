from __future__ import annotations

import random

import pytest

from nexa.core.records import Interval
from nexa.core.statistics import interval
from nexa.feedback.rest import adjusted, gap


def told(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, n=10, groups=5)


def test_the_gap_s_interval_adds_the_halves_that_face_each_other() -> None:
    found = gap(told(0.2, 0.1, 0.5), told(0.8, 0.4, 0.9))
    assert found.mean == pytest.approx(-0.6)
    assert found.high == pytest.approx(-0.6 + (0.3**2 + 0.4**2) ** 0.5)
    assert found.low == pytest.approx(-0.6 - (0.1**2 + 0.1**2) ** 0.5)


@pytest.mark.parametrize("mean", [0.05, 0.2, 0.35, 0.5, 0.8, 0.95])
def test_p_and_interval_never_contradict_each_other(mean: float) -> None:
    found = gap(told(mean, mean - 0.05, mean + 0.05), told(0.5, 0.4, 0.6))
    assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_sides_without_any_width_are_apart_or_the_same() -> None:
    assert gap(told(0.5, 0.5, 0.5), told(0.5, 0.5, 0.5)).p == 1.0
    assert gap(told(0.4, 0.4, 0.4), told(0.5, 0.5, 0.5)).p == 0.0


def test_each_kind_of_slices_is_corrected_by_itself() -> None:
    ps = {"a": 0.01, "b": 0.04, "c": 0.03}
    assert adjusted(ps, {"a": "domain", "b": "domain", "c": "length"}) == {
        "a": 0.02,
        "b": 0.04,
        "c": 0.03,
    }


def test_equal_slices_are_called_apart_in_at_most_one_case_in_twenty() -> None:
    draw = random.Random(5)
    apart = 0
    for _ in range(120):
        sides = []
        for groups in (8, 16):
            values = [float(draw.random() < 0.6) for _ in range(3 * groups)]
            sides.append(interval(values, [str(i // 3) for i in range(len(values))]))
        apart += gap(*sides).p < 0.05
    assert apart <= 6
