from __future__ import annotations

import numpy as np
import pytest

from benchmarks.intervals import power
from nexa.core.detectable import detectable_from, expected_detectable, groups_for, tell


def test_what_is_told_before_is_found_four_times_in_five() -> None:
    for row in power(400, 1000, groups=(16, 64)):
        assert row.figures["found"] == pytest.approx(0.8, abs=0.08)


def test_fewer_than_six_groups_show_nothing_and_six_only_what_changes_all_of_them() -> None:
    assert expected_detectable([1] * 5) == 1
    assert 0.9 < expected_detectable([1] * 6) < 1
    assert expected_detectable([100] * 6) < 0.5


def test_more_rows_and_more_groups_show_more() -> None:
    few, rows, groups = [2] * 20, [4] * 20, [2] * 40
    assert expected_detectable(groups) < expected_detectable(rows) < expected_detectable(few)


def test_unequal_groups_show_less() -> None:
    assert expected_detectable([49, *[1] * 15]) > expected_detectable([4] * 16)


def test_one_group_shows_nothing() -> None:
    assert expected_detectable([64]) == 1


def test_models_that_are_alike_are_told_apart_sooner() -> None:
    shape = [1] * 64
    assert expected_detectable(shape, correlation=0.9) < expected_detectable(shape)
    assert expected_detectable(shape, spread=0.2) < expected_detectable(shape)


def test_a_bases_scores_tell_how_far_they_spread() -> None:
    groups = [str(i) for i in range(64)]
    half = detectable_from([float(i % 2) for i in range(64)], groups)
    rare = detectable_from([float(i % 16 == 0) for i in range(64)], groups)
    assert half is not None
    assert rare is not None
    assert half == pytest.approx(expected_detectable([1] * 64), rel=0.02)
    assert rare < half
    assert detectable_from([0.0] * 64, groups) is None


def test_scores_that_are_not_all_or_nothing_change_a_little_in_every_group() -> None:
    groups = [str(i) for i in range(8)]
    levels = detectable_from([0.25, 0.5, 0.5, 0.25, 0.5, 0.75, 0.5, 0.5], groups)
    binary = detectable_from([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], groups)
    assert levels is not None
    assert binary is not None
    assert levels < 0.3 < 0.7 < binary
    few = detectable_from([0.25, 0.5, 0.5], groups[:3])
    assert few == 1


def test_as_many_groups_as_are_named_would_do_and_no_fewer() -> None:
    for rows in (1, 3, 10):
        enough = groups_for(0.3, rows)
        assert expected_detectable([rows] * enough) <= 0.3
        assert expected_detectable([rows] * (enough - 1)) > 0.3


def test_what_a_suite_can_show_is_told_in_a_sentence() -> None:
    assert tell([3] * 12 + [2] * 14, "exact") == (
        "64 rows in 26 groups: differences of exact from about 0.20 on are shown four times in five"
    )
    assert tell([1], "exact").startswith("1 row in 1 group cannot be relied on to show even")


def test_a_suite_that_shows_too_little_names_how_many_rows_would_do() -> None:
    told = tell([1] * 12, "exact")
    assert told == (
        "12 rows in 12 groups cannot be relied on to show even a change of exact by 0.3: "
        "about 25 rows in 25 equal groups would"
    )


def test_where_the_bases_scores_ask_for_more_groups_more_are_named() -> None:
    assert tell([1] * 12, "exact", 0.6).endswith("about 48 rows in 48 equal groups would")
    assert "from about 0.25 on" in tell([1] * 12, "exact", 0.25)


def test_equal_groups_of_a_guess_are_those_of_numpy() -> None:
    """The formula, written out once more."""
    made = expected_detectable([4] * 20)
    error = np.sqrt(0.25 * 1.3 / 80)
    assert made == pytest.approx((2.093024 + 0.860951) * error, abs=1e-5)
