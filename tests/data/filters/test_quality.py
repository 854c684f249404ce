from __future__ import annotations

from typing import Any

import pytest

from nexa.data.filters.quality import longest_loop
from nexa.data.filters.registry import FILTERS
from nexa.data.rows import Row
from tests.data.build import row

PROSE = (
    "Annealing lets the grains recrystallise and grow. The strength falls with the square root of "
    "the grain size, as Hall and Petch found, while the ductility rises."
)


def reason(given: Row, **options: Any) -> str | None:
    (verdict,) = FILTERS["quality"](options)([given])
    assert verdict is None or verdict.content is None
    return verdict and f"{verdict.reason}: {verdict.detail}"


def test_the_first_thing_that_is_wrong_is_told_of_each_row() -> None:
    verdicts = FILTERS["quality"]({})([row("Why?", "So."), row("Why?", " "), row("Why?", PROSE)])
    assert [v and v.reason for v in verdicts] == [None, "empty answer", None]


@pytest.mark.parametrize("answer", ["", " \n", "...", "``` ```", "- * -", "\u200b", '""'])
def test_answers_without_a_word_or_a_sign_are_empty(answer: str) -> None:
    told = reason(row("Why?", answer))
    assert told == f"empty answer: {len(answer)} characters, none of them a word or a sign"


@pytest.mark.parametrize("answer", ["0", "=", "[]", "{ }", "( )", "!", "?", "é", "木", "€", "π"])
def test_short_answers_are_answers(answer: str) -> None:
    assert reason(row("Why?", answer)) is None


def test_an_answer_that_is_its_prompt_is_none() -> None:
    assert reason(row("Say  what it is.", "say what it IS")) == (
        "the answer is the prompt: but for case, blanks and punctuation"
    )
    assert reason(row("Say what it is.", "Say what it is."), echo=False) is None
    assert reason(row("Good morning", "Good morning")) is None


def test_with_a_system_turn_the_prompt_may_be_a_text_that_needs_no_change() -> None:
    given = row("Say what it is.", "Say what it is.")
    system = {"role": "system", "content": "Correct the spelling."}
    content = type(given.content)((system, *given.content.messages))
    assert reason(Row(given.line, content)) is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("no " * 30, "loop: 100% of 30 words are 1 over and over"),
        ("It is so. " * 12, "loop: 100% of 36 words are 3 over and over"),
        ("Well, then: " + "it is so, " * 12, "loop: 95% of 38 words are 3 over and over"),
        ("no " * 23, None),
        ("0 " * 100, None),
        ("x[0] = 1; " * 40, None),
        ("no " * 20 + PROSE, None),
        (PROSE + " " + PROSE, None),
    ],
)
def test_loops_of_words(answer: str, told: str | None) -> None:
    assert reason(row("Why?", answer)) == told


def test_the_limit_for_loops_is_an_option() -> None:
    answer = "no " * 20 + PROSE
    assert str(reason(row("Why?", answer), max_loop=0.3)).startswith("loop: ")


def test_the_longest_loop_and_how_many_words_it_goes_round() -> None:
    words = ["so", *["a", "b"] * 8, "then", "or", *["c"] * 9, "end"]
    assert longest_loop(words) == (16 / len(words), 2)
    assert longest_loop(["a"] * 8) == (0, 0)
    assert longest_loop([f"word{i}" for i in range(50)]) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        ("GlÃ¼hen fÃ¼r KÃ¶rner", True),
        ("900 Â°C", True),
        ("\ufffd\ufffd", True),
        ("\xe4\xb8\xad\xe6\u2013\u2021", True),
        ("It is 5 µm, “so” he said: größer — é à ñ", False),
        ("中文", False),
    ],
)
def test_characters_that_a_wrong_encoding_broke(answer: str, broken: bool) -> None:
    told = reason(row("Why?", answer))
    assert str(told).startswith("broken characters: ") is broken
    assert reason(row("Why?", answer), max_broken=1.0) is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("One line of text.\n" * 4, "in repeated lines"),
        ("of the " * 3 + "grains that grow", "in one phrase of 2 words"),
        (PROSE, None),
        (" ".join([f"word{i % 100}" for i in range(200)]), "in phrases of 5 words"),
        ("one", None),
    ],
)
def test_gophers_limits_on_request(answer: str, told: str | None) -> None:
    assert reason(row("Why?", answer)) is None
    found = reason(row("Why?", answer), gopher=True)
    assert found is None if told is None else str(found).endswith(told)


def test_limits_for_letters_and_words() -> None:
    given = row("Why?", "1 2 3 four")
    assert reason(given) is None
    assert reason(given, min_letters=0.6) == "few letters: 57% of 7 characters"
    assert reason(given, min_letters=0.5) is None
    assert reason(given, min_words=5) == "few words: 4, at least 5"
    assert reason(given, max_words=3) == "many words: 4, at most 3"
    assert reason(given, min_words=4, max_words=4) is None


def test_refusals_go_on_request() -> None:
    given = row("Why?", "Well, as an AI language model I do not know.")
    assert reason(given) is None
    assert reason(given, refusals=True) == "refusal: at character 7"
    assert reason(row("Why?", PROSE), refusals=True) is None


@pytest.mark.parametrize("piece", ["a ", "a", "sorry ", "I can't ", "ab ba ", "é", "\n", "Ã"])
def test_no_text_takes_for_ever(piece: str) -> None:
    FILTERS["quality"]({"refusals": True, "gopher": True})([row("Why?", piece * 20_000)])
