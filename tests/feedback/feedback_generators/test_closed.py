from __future__ import annotations

from nexa.feedback.feedback_generators.closed import GRAM_WORDS, Closed, grams
from nexa.feedback.items import Item

SHARED = "as JSON with the keys metal and kelvin and grams and nothing else at all, please"
OWN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def item(name: str, asked: str, answer: str = "", group: str | None = None) -> Item:
    return Item(name, group or name, None, ({"role": "user", "content": asked},), answer)


def test_thirteen_words_in_a_row_are_a_gram() -> None:
    assert len(list(grams(OWN))) == 1
    assert len(next(grams(OWN))) == GRAM_WORDS
    assert list(grams("one two three")) == []


def test_what_one_group_has_for_itself_is_closed_and_what_all_say_is_not() -> None:
    suite = [
        item("a", f"{OWN} {SHARED}", group="g"),
        item("b", f"the same metal: {OWN} {SHARED}", group="g"),
        item("c", f"something else {SHARED}"),
    ]
    closed = Closed(suite)
    rows = [
        ("a question of its own, " + SHARED, "answer"),
        ("so it goes: " + OWN.upper() + ", and then on and on about many other things", ""),
        ("", "an answer that says " + OWN),
    ]
    assert closed.given_away(rows) == {1, 2}


def test_a_short_row_is_closed_by_its_prompt() -> None:
    closed = Closed([item("a", "What is the melting point of tin?", "505 K")])
    assert closed.given_away([("What is the melting point of tin?", "")]) == {0}
    assert closed.given_away([("What is the boiling point of lead?", "")]) == set()
    assert closed.given_away([]) == set()
