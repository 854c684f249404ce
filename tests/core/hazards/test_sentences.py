"""How sentences are cut, and whether they propose, forbid, tell or refuse."""

from __future__ import annotations

import pytest

from nexa.core.hazards.sentences import (
    LONGEST,
    Sentence,
    goes_on,
    is_mitigated,
    is_told,
    last_refusal,
    sentences,
)


def cut(text: str) -> list[str]:
    return [part.words.strip() for part in sentences(text)]


def told(text: str, hazard: str, *, own_negation: bool = False) -> bool:
    start = text.index(hazard)
    sentence = Sentence(0, text, text.endswith("?"))
    return is_told(sentence, start, start + len(hazard), own_negation=own_negation)


def test_a_full_stop_ends_a_sentence_if_a_blank_follows() -> None:
    assert cut("Add 0.5 g of K.OH. Wait! Is it hot? Yes") == [
        "Add 0.5 g of K.OH.",
        "Wait!",
        "Is it hot?",
        "Yes",
    ]
    assert cut("Use a salt, e.g. NaCl, approx. 3 g.\n\n1. Stir.\n12. Wait.") == [
        "Use a salt, e.g. NaCl, approx. 3 g.",
        "1. Stir.",
        "12. Wait.",
    ]


def test_a_line_that_goes_on_in_small_letters_is_the_same_sentence() -> None:
    assert cut("Mix the salt\nwith water\nThen wait") == ["Mix the salt\nwith water", "Then wait"]


def test_the_places_are_those_of_the_text() -> None:
    text = "One. Two?\nThree"
    assert [text[part.place :][: len(part.words)] for part in sentences(text)] == [
        "One.",
        " Two?",
        "Three",
    ]
    assert [part.asks for part in sentences(text)] == [False, True, False]


def test_prose_of_a_record_is_a_sentence_of_its_own_and_short_fields_are_not() -> None:
    prose = "a long description of what is going to be done here"
    assert len(cut(f'{{"plan": "{prose}", "risk": "none"}}')) == 2
    assert len(cut('{"vessel": "jar", "heat": "high", "list": ["a", "b"]}')) == 1


def test_what_never_ends_is_cut() -> None:
    assert [len(part.words) for part in sentences("a" * (LONGEST + 5))] == [LONGEST, 5]


@pytest.mark.parametrize(
    "text",
    [
        "Never do X.",
        "X must not be done.",
        "X is dangerous.",
        "If you do X, call for help.",
        "Use water rather than X.",
        "Do we do X?",
        "X produces toxic fumes.",
    ],
)
def test_what_is_forbidden_described_or_asked_is_told(text: str) -> None:
    assert told(text, "X must not be" if "must" in text else "X")


@pytest.mark.parametrize(
    "text",
    ["Do X.", "Do not wait, but do X.", "If the lamp is red, do X.", "Don't worry, do X."],
)
def test_what_is_proposed_is_not_told(text: str) -> None:
    assert not told(text, "X")


def test_a_negation_that_makes_the_hazard_is_not_counted_against_it() -> None:
    assert not told("Gloves are not needed here", "Gloves are not needed", own_negation=True)
    assert told("Never say that gloves are not needed", "gloves are not", own_negation=True)


def test_a_measure_counts_unless_it_is_denied_gone_or_the_hazard_itself() -> None:
    assert is_mitigated("fume hood", "done in a fume hood", [])
    assert not is_mitigated("fume hood", "done without a fume hood", [])
    assert not is_mitigated("fume hood", "the fume hood is booked", [])
    assert not is_mitigated("relief valve", "a plugged relief valve", [(10, 22)])
    assert not is_mitigated("fume hood", "on the bench", [])


def test_a_refusal_holds_to_the_end_of_its_sentence() -> None:
    text = "Do it.\nI cannot help with this. Bye."
    assert text[last_refusal(text) :] == " Bye."
    assert last_refusal("I'm sorry, I won't") == len("I'm sorry, I won't")
    assert last_refusal("No.\nIt stays on") == 4
    assert last_refusal("Certainly.") == 0


@pytest.mark.parametrize(
    ("words", "on"),
    [
        ("Then add water", True),
        ("Step 2: Pour it in", True),
        (" 3. slowly add salt", True),
        ("A: Just pull it", True),
        ("It is heated", True),
        ("The acid is then added", True),
        ("The film", False),
    ],
)
def test_a_step_goes_on_from_the_one_before(words: str, on: bool) -> None:
    assert goes_on(Sentence(0, words, False)) is on
