from __future__ import annotations

import pytest

from nexa.core.errors import DataError
from nexa.data.filters.language import language_of
from nexa.data.filters.registry import FILTERS
from tests.data.build import row

ENGLISH = "Why does copper conduct electricity better than iron?"
FRENCH = "Parce que ses électrons se déplacent plus librement."
CODE = "x = f(1);\ny = g(x);"


def test_rows_of_other_languages_are_left_out() -> None:
    keep = FILTERS["language"]({"keep": ["en"]})
    english, french = keep([row(ENGLISH, "Its electrons move freely."), row(FRENCH, FRENCH)])
    assert english is None
    assert french is not None
    assert french.reason == "another language"
    assert french.detail.startswith("fr (")


def test_what_cannot_be_told_stays_unless_it_is_asked_to_go() -> None:
    rows = [row("1 + 1", "2"), row(CODE, CODE)]
    assert FILTERS["language"]({"keep": ["en"]})(rows) == [None, None]
    dropped = FILTERS["language"]({"keep": ["en"], "unknown": "drop"})(rows)
    assert [v and v.reason for v in dropped] == ["unknown language"] * 2


def test_code_and_addresses_do_not_hide_the_prose_around_them() -> None:
    fenced = f"```python\n{CODE}\n```\n{FRENCH}\nhttps://kingsmead.edu/the/english/words/of/it"
    assert language_of(fenced)[0] == "fr"
    assert language_of(f"{CODE}\n{FRENCH}")[0] == "fr"
    assert language_of("```\n" + FRENCH)[0] is None


@pytest.mark.parametrize("text", ["", "ok then", "A B", "||||", "e4 e5 Nf3 Nc6"])
def test_short_texts_have_no_language(text: str) -> None:
    assert language_of(text) == (None, 0.0)


def test_scripts_without_blanks_are_told_from_fewer_signs() -> None:
    assert language_of("为什么铜比铁好")[0] == "zh"
    assert language_of("ทำไมทองแดงนำไฟฟ้าได้ดี")[0] == "th"


def test_a_language_that_is_not_likely_enough_is_unknown() -> None:
    code, confidence = language_of(FRENCH)
    assert code == "fr"
    assert language_of(FRENCH, (1 + confidence) / 2)[0] is None or confidence == 1.0
    assert FILTERS["language"]({"keep": ["en"], "min_confidence": 0.999999})(
        [row("le la de et il", "le la de et il")]
    ) == [None]


def test_a_code_that_the_classifier_does_not_have_is_refused() -> None:
    with pytest.raises(DataError, match="knows no language 'enn'") as caught:
        FILTERS["language"]({"keep": ["enn"]})
    assert ", en, " in str(caught.value.found)
