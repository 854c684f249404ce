from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ConfigError
from nexa.weights.merge_models.yaml_page import Page, dotted, read_page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "line 1: expected ',' or ']'"),
        ("a: 1\na: 2", "line 2: found duplicate key"),
        ("a: \x00", "special characters are not allowed"),
        ("", "an empty file"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_what_is_not_keys_with_values_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Page(text, name="recipe.yaml")
    assert told in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_page(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="cannot read"):
        read_page(tmp_path / "latin.yaml")


def test_a_mistake_is_told_once_and_in_the_files_order() -> None:
    page = Page("a: 1\nb: [x,\n  y]\n", name="recipe.yaml")
    page.wrong(("b", 1), "is wrong")
    page.wrong(("b", 1), "is wrong")
    page.wrong(("a",), "is wrong")
    with pytest.raises(ConfigError) as caught:
        page.close()
    assert caught.value.found == "line 1: a is wrong\nline 3: b[1] is wrong"


def test_a_page_without_mistakes_closes() -> None:
    Page("a: 1", name="recipe.yaml").close()


def test_a_place_that_is_not_there_has_the_line_of_what_it_should_be_in() -> None:
    page = Page("a:\n  b: 1\nc: {d: 2}\n", name="recipe.yaml")
    assert page.line(("c", "e", "f")) == 3
    assert page.line(("a", "b", "c")) == 2
    assert page.line(("z",)) == 1


def test_a_key_from_an_anchor_has_the_line_of_its_section() -> None:
    page = Page("a: &a\n  b: 1\nc:\n  <<: *a\n", name="recipe.yaml")
    assert page.values["c"] == {"b": 1}
    assert page.line(("c", "b")) == 3


def test_a_key_that_is_no_text_is_told_as_text() -> None:
    page = Page("1: 2", name="recipe.yaml")
    assert page.section(page.values, (), ["a"]) == {}
    with pytest.raises(ConfigError, match="line 1: 1 is not a key: known: a"):
        page.close()


def test_places_are_written_as_people_do() -> None:
    assert dotted(("models", 0, "parameters", "weight")) == "models[0].parameters.weight"
