"""The section `feedback`: what is taken, and what is told of a mistake."""

from __future__ import annotations

import pytest

from nexa.core.config import parse_config
from nexa.core.config_feedback import KINDS, FeedbackSection
from nexa.core.errors import ConfigError

HEAD = "model: {path: m}\ndata: {train_path: rows.jsonl}\nfeedback:\n"


def mistakes(section: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(HEAD + section)
    return str(caught.value.found).splitlines()


def test_left_out_it_has_its_defaults() -> None:
    section = parse_config("model: {path: m}\ndata: {train_path: rows.jsonl}\n").feedback
    assert section == FeedbackSection()
    assert (section.generator, section.rounds, section.rows) == ("pool", 2, 40)
    assert section.by == KINDS
    assert section.rules == ()


def test_one_rule_and_one_kind_need_no_list() -> None:
    section = parse_config(HEAD + "  rules: falsifiability < 4.0\n  by: domain\n").feedback
    assert (section.rules, section.by) == (("falsifiability < 4.0",), ("domain",))
    several = parse_config(HEAD + "  rules: [a < 1, b < 2]\n  by: [tag, domain, tag]\n").feedback
    assert (several.rules, several.by) == (("a < 1", "b < 2"), ("tag", "domain"))


def test_a_price_is_two_numbers() -> None:
    section = parse_config(HEAD + "  teacher: wise\n  price: [1.5, 2]\n").feedback
    assert (section.teacher, section.price) == ("wise", (1.5, 2.0))
    assert mistakes("  price: cheap\n")[0].startswith("line 4: feedback.price")


def test_a_threshold_and_rules_are_two_ways_to_say_one_thing() -> None:
    assert parse_config(HEAD + "  threshold: 0.5\n").feedback.threshold == 0.5
    assert mistakes("  threshold: 0.5\n  rules: [exact < 0.5]\n")[0].startswith(
        "line 5: feedback.rules: give threshold or rules, not both"
    )


def test_mistakes_are_told_with_their_lines() -> None:
    found = mistakes("  rules: ['']\n  by: [domian]\n  rouns: 3\n  analysis_share: 1.0\n")
    assert found[0].startswith("line 4: feedback.rules: should be rules such as")
    assert found[1].startswith("line 5: feedback.by: 'domian' is nothing that rows are cut by")
    assert found[2] == "line 6: feedback.rouns is not a key: did you mean 'rounds'?"
    assert found[3].startswith("line 7: feedback.analysis_share")
    assert mistakes("  by: []\n")[0].startswith("line 4: feedback.by: should name one of")
