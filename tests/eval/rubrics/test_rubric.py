from __future__ import annotations

from dataclasses import replace

import pytest

from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.rubrics.rubric import OVERALL, Rubric, level_of, score_of
from tests.eval.judging import RUBRIC


def test_overall_is_the_weighted_mean_and_missing_where_a_part_is() -> None:
    assert RUBRIC.overall({"clarity": 5, "depth": 1}) == pytest.approx((5 + 3 * 1) / 4)
    assert RUBRIC.overall({"clarity": 5, "depth": None}) is None
    assert RUBRIC.metrics == ["clarity", "depth", OVERALL]


def test_levels_become_scores_and_back() -> None:
    assert [score_of(level) for level in (1, 2, 3, 4, 5)] == [0, 0.25, 0.5, 0.75, 1]
    assert [level_of(score_of(level)) for level in (1, 2.5, 5)] == [1, 2.5, 5]


def test_one_changed_comma_makes_another_digest() -> None:
    rubric = load_rubric()
    first = rubric.criteria[0]
    levels = (first.levels[0].replace(",", ";"), *first.levels[1:])
    assert levels != first.levels
    changed = replace(rubric, criteria=(replace(first, levels=levels), *rubric.criteria[1:]))
    assert changed.sha256 != rubric.sha256
    assert replace(rubric, primary="clarity").sha256 != rubric.sha256
    heavier = replace(rubric, criteria=(replace(first, weight=2.0), *rubric.criteria[1:]))
    assert heavier.sha256 != rubric.sha256


def test_a_rubric_comes_back_from_its_plain_data() -> None:
    rubric = load_rubric()
    assert Rubric.from_json(rubric.to_json()) == rubric
    assert Rubric.from_json(rubric.to_json()).sha256 == rubric.sha256
