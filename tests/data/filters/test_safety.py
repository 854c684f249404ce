"""The filter of unsafe proposals: what it drops, keeps and says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.data.filters.base import Verdict
from nexa.data.filters.registry import FILTERS
from tests.data.build import row

MIXED = row("How do I clean the hood?", "Mix bleach with ammonia.")
CLEAN = row("What is boiled?", "Water.")
TOLD = row("May I mix these?", "Never mix bleach with ammonia.")


def verdicts(*rows: Any, options: Mapping[str, Any] | None = None) -> list[Verdict | None]:
    return list(FILTERS["safety"](options or {})(list(rows)))


def test_a_hazard_is_dropped_with_its_kind_words_and_score() -> None:
    assert verdicts(CLEAN, MIXED, TOLD) == [
        None,
        Verdict(
            "unsafe proposal (combination)",
            "safety score 0.20; combination: 'Mix bleach with ammonia' at character 26",
        ),
        None,
    ]


def test_a_row_may_stay_and_be_counted() -> None:
    (verdict,) = verdicts(MIXED, options={"action": "keep"})
    assert verdict is not None
    assert verdict.content == MIXED.content


def test_some_flags_may_be_allowed() -> None:
    assert verdicts(MIXED, options={"max_red_flags": 1}) == [None]


def test_a_low_score_is_enough_without_a_flag() -> None:
    hood = row("How?", "In a fume hood, mix bleach with ammonia.")
    (verdict,) = verdicts(hood, options={"min_safety_score": 0.95})
    assert verdict == Verdict("unsafe proposal (low safety score)", "safety score 0.92")
    assert verdicts(hood) == [None]
    assert verdicts(hood, options={"min_safety_score": 0.9}) == [None]


def test_of_many_flags_the_first_are_told() -> None:
    (verdict,) = verdicts(row("How?", "Mix bleach with ammonia.\n" * 5))
    assert verdict is not None
    assert verdict.detail.endswith("; and 2 more")
    assert verdict.detail.count("combination:") == 3


def test_what_the_system_turn_says_is_not_the_rows() -> None:
    system = {"role": "system", "content": "Mix bleach with ammonia."}
    content = type(CLEAN.content)(messages=(system, *CLEAN.content.messages))
    assert verdicts(type(CLEAN)(CLEAN.line, content)) == [None]


def test_batches_change_nothing() -> None:
    rows = [MIXED, CLEAN, TOLD] * 3
    assert verdicts(*rows) == [verdict for one in rows for verdict in verdicts(one)]
    assert verdicts() == []


def test_an_option_that_it_does_not_take_is_refused() -> None:
    with pytest.raises(DataError, match="safety does not take"):
        FILTERS["safety"]({"min_safety_score": 2.0})
