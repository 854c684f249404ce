from __future__ import annotations

import pytest

from nexa.eval.tasks import extract


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It melts at 1811 K, not 1535.", "1535"),
        ("about -0.5", "-0.5"),
        ("1,234.5 and 1,2345", "2345"),
        ("6.02 x 10^23", "6.02 x 10^23"),
        ("1.6\u00d710⁻¹⁹", "1.6\u00d710⁻¹⁹"),
        ("1e-3.", "1e-3"),
        ("CO2 and H2O", None),
        ("from 10-20", "20"),
        (".5", ".5"),
        ("none", None),
    ],
)
def test_the_last_number_is_found_as_it_is_written(text: str, found: str | None) -> None:
    assert extract.last_number(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("B. because", "B"),
        ("**D**", "D"),
        ("A metal. The answer is (B).", "B"),
        ("Answer: C", "C"),
        ("I would say (A), or rather (D)", "D"),
        ("A metal", None),
        ("no idea", None),
    ],
)
def test_a_letter_is_chosen_not_an_article(text: str, found: str | None) -> None:
    assert extract.letter(text) == found


def test_lines_are_those_that_are_not_blank() -> None:
    assert extract.first_line("\n  a \n b\n\n") == "a"
    assert extract.last_line("\n  a \n b \n\n") == "b"
    assert extract.first_line(" \n") is None
    assert extract.last_line("") is None
    assert extract.whole(" a ") == " a "


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Here:\n```python\nx = 1\n```\nand\n```\ny = 2\n```\n", "x = 1\n"),
        ("```json\n{}\n```\n```py\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```json\n{}\n```", None),
        ("x = 1", "x = 1"),
        ("  ", None),
    ],
)
def test_code_is_the_first_block_of_python_or_all_of_it(text: str, found: str | None) -> None:
    assert extract.code(text) == found


def test_a_pattern_takes_a_group_of_its_last_match() -> None:
    taken = extract.by_pattern(r"^(\w+) is (\w+)$", 2)
    assert taken("iron is hard\ngold is soft") == "soft"
    assert taken("neither") is None
    assert extract.by_pattern(r"\d+", 0)("1 of 2") == "2"


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("/a/b", "x"),
        ("/a/c~1d", "7"),
        ("/l/1/~0", '{"k":null}'),
        ("/l/01", None),
        ("/l/9", None),
        ("/a/b/c", None),
        ("/z", None),
        ("", '{"a":{"b":"x","c/d":7},"l":[0,{"~":{"k":null}}]}'),
    ],
)
def test_a_pointer_leads_into_json(pointer: str, found: str | None) -> None:
    text = '{"a": {"b": "x", "c/d": 7}, "l": [0, {"~": {"k": null}}]}'
    assert extract.by_pointer(pointer)(text) == found


def test_a_pointer_into_what_is_no_json_finds_nothing() -> None:
    assert extract.by_pointer("/a")("a: 1") is None


def test_steps_are_taken_in_order() -> None:
    steps = ("unicode", "casefold", "punctuation", "articles", "whitespace", "strip")
    assert extract.normalised("  The ﬁrst,  Straße! ", steps) == "first strasse"
    assert extract.normalised(" A ", ()) == " A "
    assert set(steps) == set(extract.STEPS)
