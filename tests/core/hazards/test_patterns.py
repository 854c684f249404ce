"""Rules of patterns that stand near each other, and the quick look for many of them."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from nexa.core.hazards.patterns import Rule, alternatives, any_trigger
from nexa.core.hazards.rules import RULES
from tests.core.hazards.labelled import read


def test_a_rule_needs_all_its_words_near_each_other_in_any_order() -> None:
    rule = Rule("combination", (r"\bbleach\b", "ammonia", r"\bmix\w*"), within=30)
    assert rule.find("Mixing ammonia, bleach") == ((16, 22), (7, 14), (0, 6))
    assert rule.find("Mixing ammonia with water for hours, later bleach") is None
    assert rule.find("mix bleach") is None
    assert rule.find("mix ammonia") is None


def test_the_nearest_words_count_and_a_later_place_may_do() -> None:
    rule = Rule("combination", ("bleach", "acid"), within=12)
    assert rule.find("bleach is far away from it; acid bleach; acid") == ((33, 39), (28, 32))


def test_a_context_excuses() -> None:
    rule = Rule("combination", ("bleach", "acid"), excused_by="titrat")
    assert rule.find("acid and bleach") is not None
    assert rule.find("titrate bleach with acid") is None


def test_alternatives_are_the_parts_between_outer_bars() -> None:
    assert list(alternatives(r"a|b(?:c|d)e|[|x]|\|")) == ["a", "b(?:c|d)e", "[|x]", r"\|"]


def test_a_group_of_whole_words_is_taken_apart() -> None:
    assert list(alternatives(r"\b(?:one|two(?:s)?)\b|three")) == [
        r"\bone\b",
        r"\btwo(?:s)?\b",
        "three",
    ]
    assert list(alternatives("(?:a)|b(?:c)")) == ["a", "b(?:c)"]
    assert list(alternatives("(?:a|b)(?:c|d)")) == ["(?:a|b)(?:c|d)"]


def test_letters_that_must_be_there_are_in_every_text_that_a_trigger_finds() -> None:
    for row in read("safety"):
        lowered = row.text.lower()
        for rule in RULES:
            if re.search(rule.needs[0], row.text, re.IGNORECASE | re.ASCII):
                assert rule.may_be_in(lowered)
    assert not Rule("x", (r"\bbleach\b|caf[eé]?s",)).may_be_in("tea")


def test_the_union_of_triggers_finds_what_each_trigger_finds() -> None:
    texts = [row.text for row in read("safety")]
    union = pc.match_substring_regex(pa.array(texts), any_trigger(RULES)).to_pylist()
    patterns = [re.compile(rule.needs[0], re.IGNORECASE | re.ASCII) for rule in RULES]
    assert union == [any(pattern.search(text) for pattern in patterns) for text in texts]
