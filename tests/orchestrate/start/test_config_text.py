from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nexa.orchestrate.start.config_text import Line, config_text, decimal, scalar


def read(text: str) -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = YAML(typ="safe").load(text)
    return tree


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_reads_back_whatever_the_comment_holds(value: str, reason: str) -> None:
    text = config_text([("data", [Line("train_path", value, reason)])], repo_name="x")
    assert read(text) == {"data": {"train_path": value}}


@given(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**53), 2**53))
def test_any_number_reads_back(value: float) -> None:
    assert read(f"a: {{b: {scalar(value)}}}")["a"]["b"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-4, "2e-4"), (1e-3, "1e-3"), (1.5e-4, "1.5e-4"), (0.1, "0.1"), (0.0, "0")],
)
def test_numbers_are_written_as_people_do(value: float, text: str) -> None:
    assert decimal(value) == text


@pytest.mark.parametrize(
    "word", ["true", "No", "null", "~", "", "12", "1e3", "a: b", "a #b", "- a"]
)
def test_text_that_yaml_would_take_for_something_else_is_quoted(word: str) -> None:
    assert scalar(word).startswith('"')


@pytest.mark.parametrize("word", ["./data/train.jsonl", "Qwen/Qwen2.5-0.5B", "../a_b/c+d@e"])
def test_ordinary_paths_and_ids_are_not_quoted(word: str) -> None:
    assert scalar(word) == word


def test_comments_of_a_section_are_aligned_and_publish_is_a_comment() -> None:
    lines = [Line("a", 1, "one"), Line("longer", "text", "two")]
    text = config_text([("section", lines)], repo_name="smol")
    assert "section:\n  a: 1          # one\n  longer: text  # two\n" in text
    assert "\n# publish:\n#   repo: you/smol\n" in text
