from __future__ import annotations

import pytest

from nexa.eval.tasks.kinds import KINDS, AnswerSection


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_what_all_kinds_say(kind: str) -> None:
    assert {"name", "kind", "about", "primary", "metrics"} <= set(KINDS[kind].model.model_fields)


@pytest.mark.parametrize(
    ("said", "text", "found"),
    [
        ({}, " a ", " a "),
        ({"take": "last_number"}, "1 or 2", "2"),
        ({"take": "regex", "pattern": r"(\w)(\d)", "group": 2}, "a1 b2", "2"),
        ({"take": "regex", "pattern": r"\d", "group": 2}, "a1 b2", "2"),
        ({"take": "json_pointer", "pointer": "/a"}, '{"a": 1}', "1"),
    ],
)
def test_the_part_that_counts_is_found(said: dict[str, object], text: str, found: str) -> None:
    assert AnswerSection.model_validate(said).extract(text) == found
