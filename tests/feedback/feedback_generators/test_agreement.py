from __future__ import annotations

import pytest

from nexa.feedback.feedback_generators.agreement import extracts, in_form, not_found, same
from nexa.feedback.items import Item
from tests.feedback import made


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ('{"a": 1, "b": "x"}', '{"b": "x", "a": 1.0}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": [1, {"b": null}]}', ' {"a":[1.0,{"b":null}]}\n', True),
        ('{"a": "tin  foil"}', '{"a": "tin foil"}', True),
        ('{"a": 1}', '{"a": 2}', False),
        ('{"a": 1}', "1", False),
        ("It is  Tin.", "it is tin.", True),
        ("It is tin.", "It is lead.", False),
    ],
)
def test_answers_agree_as_json_or_letter_for_letter(one: str, other: str, agree: bool) -> None:
    assert same(one, other) is agree
    assert same(other, one) is agree


def test_a_record_takes_the_order_of_its_kind() -> None:
    assert in_form('{"b": 1, "a": "\u00e4"}', '{"a": "x", "b": 2}') == '{"a": "\u00e4", "b": 1}'
    assert in_form(' {"c": 1} ', '{"a": 1}') == '{"c": 1}'
    assert in_form("Tin. ", '{"a": 1}') == "Tin."


@pytest.mark.parametrize(
    ("answer", "lacking"),
    [
        ('{"metal": "IRON", "t": 1811.0, "n": null, "ok": true}', None),
        ('{"t": 1811}', None),
        ('{"t": 1812}', "1812"),
        ('{"deep": {"list": [1811, "gold"]}}', "gold"),
        ('{"to": 65}', None),
        ('{"below": -40}', None),
        ("no record", None),
    ],
)
def test_a_value_has_to_stand_in_the_question(answer: str, lacking: str | None) -> None:
    question = "The melt of  iron held 1811.0 K, over 24-65 h, from -40 C."
    assert not_found(question, answer) == lacking


def test_rows_extract_where_hardly_any_answer_says_more_than_its_question() -> None:
    def item(question: str, answer: str) -> Item:
        return Item("i", "g", None, ({"role": "user", "content": question},), answer)

    rows = [item(made.asked("letter", n), made.answer("letter", n)) for n in range(9)]
    assert extracts(rows)
    assert extracts([*rows, item("nothing", '{"a": 5}')])
    assert not extracts([*rows, item("nothing", '{"a": 5}'), item("again", '{"a": 6}')])
    assert not extracts([*rows, item("What?", "words")])
    assert not extracts([])
