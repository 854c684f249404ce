from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from nexa.data.filters.registry import FILTERS
from nexa.data.loaders import loader_for
from nexa.data.rows import Row
from nexa.data.schemas import SCHEMAS, shape_of
from tests.data.build import row

EXAMPLES = Path(__file__).parents[3] / "examples" / "materials"


def mended(answer: str, **options: bool) -> tuple[str, str] | None:
    (verdict,) = FILTERS["normalise"](options)([row("Why?", answer)])
    if verdict is None:
        return None
    assert verdict.content is not None
    assert verdict.content.messages[0]["content"] == "Why?"
    return verdict.content.messages[-1]["content"], verdict.detail


@pytest.mark.parametrize(
    ("answer", "after", "why"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n", "line ends"),
        ("a\x0cb\x0bc", "a\nb\nc", "line ends"),
        ("a\x00b\x08c\x7f", "abc", "control characters"),
        ("\ufeffa", "a", "control characters"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07end", "red end", "control characters"),
        ("\x93so\x94 it\x92s 5 \x80\x81", "“so” it\u2019s 5 €", "control characters"),
        ("Ko\u0308rner", "Körner", "composed"),
        ("300 \u212a", "300 K", "composed"),
        ("a\r\ne\u0301\x00", "a\né", "line ends, control characters, composed"),
    ],
)
def test_what_nobody_means_is_mended(answer: str, after: str, why: str) -> None:
    assert mended(answer) == (after, why)


@pytest.mark.parametrize(
    "answer",
    [
        "plain",
        "\ttab and two lines \n  \n",
        "Körner, 漢字, 👩\u200d🔬, \u2028",
        "a\ufeffb",
        "x  \n\n",
    ],
)
def test_clean_rows_are_not_touched(answer: str) -> None:
    assert mended(answer) is None


def test_blanks_at_the_ends_of_lines_go_on_request() -> None:
    assert mended("a  \nb\t\n c ", trailing_blanks=True) == ("a\nb\n c", "trailing blanks")
    assert mended("a\n b", trailing_blanks=True) is None


def test_each_mend_can_be_left_out() -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    off = {"compose": False, "line_ends": False, "controls": False}
    assert mended(f"a\r\n\x00{decomposed}", **off) is None


def test_only_the_message_that_is_not_clean_changes() -> None:
    given = row("a\x00", "b")
    (verdict,) = FILTERS["normalise"]({})([given])
    assert verdict is not None
    assert verdict.reason == "normalised"
    assert verdict.content is not None
    assert verdict.content.messages[1] is given.content.messages[1]
    assert verdict.content.messages[0]["content"] == "a"


@pytest.mark.parametrize("name", ["train.jsonl", "eval.jsonl", "pool.jsonl"])
def test_the_default_filters_change_no_row_of_the_example(name: str) -> None:
    path = EXAMPLES / name
    rows = []
    for line in loader_for(path)(path, name):
        assert line.data is not None
        shape = shape_of(line.data)
        assert shape is not None
        rows.append(Row(line, SCHEMAS[shape].convert(line.data)))
    for filter_name in ("normalise", "quality"):
        assert FILTERS[filter_name]({})(rows) == [None] * len(rows)
