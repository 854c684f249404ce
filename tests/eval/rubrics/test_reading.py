from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError
from nexa.eval.rubrics.reading import DEFAULT, built_in, load_rubric, parse_rubric

GOOD = """\
name: mine
primary: clarity
show_target: true
criteria:
  clarity:
    asks: Is it
      clear?
    weight: 2
    levels: {1: a, 2: b, 3: c, 4: d, 5: e}
"""


def test_the_packages_rubric_has_the_five_criteria_with_five_levels_each() -> None:
    rubric = load_rubric()
    assert built_in() == [DEFAULT]
    assert rubric.names == [
        "falsifiability",
        "clarity",
        "experimental_design",
        "risk_awareness",
        "safety_compliance",
    ]
    for criterion in rubric.criteria:
        assert len(set(criterion.levels)) == 5
        assert criterion.asks.endswith("?")
    assert (rubric.primary, rubric.show_target) == ("overall", False)


def test_a_users_rubric_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    rubric = load_rubric(str(path))
    assert (rubric.name, rubric.primary, rubric.show_target) == ("mine", "clarity", True)
    [criterion] = rubric.criteria
    assert (criterion.asks, criterion.weight) == ("Is it clear?", 2.0)
    assert criterion.levels == ("a", "b", "c", "d", "e")


def test_where_a_line_of_the_file_breaks_does_not_change_the_digest() -> None:
    joined = GOOD.replace("Is it\n      clear?", "Is it clear?")
    assert parse_rubric(joined).sha256 == parse_rubric(GOOD).sha256
    assert parse_rubric(GOOD.replace("clear?", "clear,?")).sha256 != parse_rubric(GOOD).sha256


def test_a_name_that_nothing_has_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="nearest name is research"):
        load_rubric("reserch")
    with pytest.raises(ConfigError, match="known: research"):
        load_rubric("zzz.yaml")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_rubric(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "is not YAML.*\n.*line"),
        ("a: *b", "is not YAML"),
        ("name: \x00", "is not YAML"),
        ("- one", "holds no rubric"),
        ("", "holds no rubric"),
        ("name: a\nname: b", "line 2"),
    ],
)
def test_what_is_no_rubric_at_all_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_rubric(text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("primary: clarity", "primary: claritty"), "line 2: primary .*did you mean 'clarity'"),
        (("primary: clarity", "primary: zzzz"), "line 2: primary .*known: overall, clarity"),
        (("show_target: true", "show_target: 1"), "line 3: show_target 1 is not true or false"),
        (("name: mine", "name: My Own"), "line 1: name 'My Own' is not a name"),
        (("name: mine\n", ""), "line 1: name is missing"),
        (("name: mine", "nam: mine"), "line 1: nam is not a key: did you mean 'name'"),
        (("name: mine", "name: mine\nqqqq: 1"), "line 2: qqqq is not a key: known: name"),
        (("asks: Is it\n      clear?", "asks: 3"), "line 6: criteria.clarity.asks 3 is not words"),
        (("weight: 2", "weight: -1"), "line 8: criteria.clarity.weight -1 is not a number above 0"),
        (("weight: 2", "weight: true"), "weight True is not a number"),
        (("weight: 2", "weight: .inf"), "weight inf is not a number"),
        (("5: e", "6: e"), "levels are not 1, 2, 3, 4 and 5"),
        (("{1: a, 2: b, 3: c, 4: d, 5: e}", "high"), "levels are not 1, 2, 3, 4 and 5"),
        (("1: a", "1: ' '"), "line 9: criteria.clarity.levels.1 ' ' is not words"),
        (("    levels: {1: a, 2: b, 3: c, 4: d, 5: e}\n", ""), "clarity levels is missing"),
        (("  clarity:", "  Clarity!:"), "'Clarity!' is not a name"),
        (("  clarity:", "  stopped:"), "'stopped' is a name that every row has already"),
    ],
)
def test_every_mistake_has_its_line_and_the_nearest_name(
    change: tuple[str, str], told: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError, match=told):
        parse_rubric(GOOD.replace(*change))


@pytest.mark.parametrize(
    ("criteria", "told"),
    [
        ("criteria: {}", "holds no criteria"),
        ("criteria: 3", "holds no criteria"),
        ("criteria:", "criteria is missing"),
        ("criteria: {clarity: 3}", "is not a section with the keys asks, weight, levels"),
    ],
)
def test_a_rubric_without_criteria_is_refused(criteria: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_rubric(f"name: mine\n{criteria}\n")


def test_what_came_in_by_a_merge_key_is_told_at_its_section() -> None:
    text = GOOD.replace("  clarity:", "  clarity: &one") + "  depth:\n    <<: *one\n"
    assert parse_rubric(text).criteria[1].weight == 2
    with pytest.raises(ConfigError, match=r"line 10: criteria\.depth\.weight 0") as told:
        parse_rubric(text.replace("weight: 2", "weight: 0"))
    assert "line 8: criteria.clarity.weight 0" in str(told.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="has 2 mistakes") as told:
        parse_rubric(GOOD.replace("weight: 2", "weight: 0").replace("5: e", "5: 5"))
    assert str(told.value).count("line ") == 2
