"""The door for what models wrote: answers with red flags, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexa.data.filters.base import Verdict
from nexa.data.filters.red_flags import RED_FLAG, Whose, by_a_model, make
from nexa.data.rows import Row
from tests.data.build import row

HAZARD = "Mix bleach with ammonia."
HOODED = "In a fume hood, mix bleach with ammonia."


def verdicts(*rows: Row, whose: Whose = "all") -> list[Verdict | None]:
    return list(make(whose)(list(rows)))


def test_an_answer_with_a_red_flag_is_refused_with_its_kind_and_place() -> None:
    found = verdicts(row("How?", "Boil it."), row("How?", f"Well. {HAZARD}"), row("How?", HOODED))

    told = "combination: 'Mix bleach with ammonia' at character 7 of the answer"
    assert found == [None, Verdict(RED_FLAG, told), None]


def test_a_question_that_names_a_hazard_is_no_answer() -> None:
    assert verdicts(row(HAZARD, "That is dangerous.")) == [None]


def test_earlier_answers_of_a_conversation_are_looked_at_too_and_told_once() -> None:
    asked = row("How?", HAZARD)
    said = asked.content.messages
    talk = replace(asked, content=replace(asked.content, messages=(*said, *said)))
    last = replace(
        asked,
        content=replace(asked.content, messages=(*said, *row("And?", "No more.").content.messages)),
    )

    assert [verdict is not None for verdict in verdicts(talk, last)] == [True, True]


def test_of_many_flags_the_first_are_told() -> None:
    (verdict,) = verdicts(row("How?", f"{HAZARD}\n" * 5))
    assert verdict is not None
    assert verdict.detail.count("combination:") == 3
    assert verdict.detail.endswith("; and 2 more")


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("synthetic", True),
        ("Synthetic (v2)", True),
        (" teacher: wise", True),
        ("distilled", True),
        ("generated", True),
        ("LLM", True),
        ("model", True),
        ("model/7b", True),
        ("model organisms handbook", False),
        ("human", False),
        ("a handbook on synthetic rubber", False),
        (None, False),
    ],
)
def test_a_rows_source_says_whether_a_model_wrote_it(source: Any, written: bool) -> None:
    labelled = row("How?", HAZARD, source=source)

    assert by_a_model(labelled) is written
    assert (verdicts(labelled, whose="synthetic") != [None]) is written
    assert verdicts(labelled) != [None]


def test_nobodys_answers_are_looked_at_where_nobodys_are_meant() -> None:
    assert verdicts(row("How?", HAZARD), whose="nobody") == [None]
