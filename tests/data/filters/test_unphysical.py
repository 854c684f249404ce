"""The filter of quantities that cannot be: what it drops, keeps and says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nexa.core.errors import DataError
from nexa.data.filters.base import Verdict
from nexa.data.filters.registry import FILTERS
from tests.data.build import row

COLD = row("How cold was it?", "It was cooled to -300 \u00b0C.")
COOL = row("How cold was it?", "It was cooled to -200 \u00b0C.")
CLEAN = row("What is boiled?", "Water.")


def verdicts(*rows: Any, options: Mapping[str, Any] | None = None) -> list[Verdict | None]:
    return list(FILTERS["unphysical"](options or {})(list(rows)))


def test_what_cannot_be_is_dropped_with_its_value_and_why() -> None:
    assert verdicts(CLEAN, COLD, COOL) == [
        None,
        Verdict(
            "unphysical (temperature)",
            "temperature '-300 \u00b0C' at character 35: below absolute zero",
        ),
        None,
    ]


def test_a_row_may_stay_and_be_counted() -> None:
    (verdict,) = verdicts(COLD, options={"action": "keep"})
    assert verdict is not None
    assert verdict.content == COLD.content


def test_only_the_kinds_asked_for_are_looked_at() -> None:
    assert verdicts(COLD, options={"kinds": ["mass"]}) == [None]
    assert verdicts(COLD, options={"kinds": ["mass", "temperature"]}) != [None]


def test_of_many_the_first_are_told() -> None:
    (verdict,) = verdicts(row("How?", "Cool to -300 \u00b0C.\n" * 4 + "Weigh in -3 g."))
    assert verdict is not None
    assert verdict.reason == "unphysical (mass, temperature)"
    assert verdict.detail.endswith("; and 2 more")


def test_batches_change_nothing() -> None:
    rows = [COLD, CLEAN, COOL] * 3
    assert verdicts(*rows) == [verdict for one in rows for verdict in verdicts(one)]
    assert verdicts() == []


def test_an_option_that_it_does_not_take_is_refused() -> None:
    with pytest.raises(DataError, match="unphysical does not take"):
        FILTERS["unphysical"]({"kinds": ["colour"]})
