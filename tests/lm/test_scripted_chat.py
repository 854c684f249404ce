from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ModelError
from nexa.lm.client import Price, RequestFailed
from nexa.lm.scripted_chat import ScriptedChat
from tests.lm.asked import complete, request


def test_a_table_answers_by_the_last_message_and_says_that_it_is_scripted() -> None:
    model = ScriptedChat({"hello": "goodbye", "*": "what?"})
    known, other = complete(model, request("hello"), request("else"))
    assert (known.text, other.text) == ("goodbye", "what?")
    assert (known.model, known.finish) == ("scripted", "stop")
    assert (known.input_tokens, known.output_tokens) == (model.count_tokens(request("hello")), 3)
    assert known.extra == {"tokens": "estimated"}
    assert model.price is not None
    assert model.price.cost_usd(9, 9) == 0.0


def test_a_function_answers_too() -> None:
    model = ScriptedChat(lambda asked: asked.id.upper(), name="shouting")
    assert [one.text for one in complete(model, request("a"), request("b"))] == ["A", "B"]


def test_a_prompt_that_no_table_has_is_a_problem_of_its_row() -> None:
    with pytest.raises(RequestFailed, match="the nearest is 'hello'") as caught:
        complete(ScriptedChat({"hello": ""}), request("hallo"))
    assert not caught.value.temporary


def test_another_table_is_another_model() -> None:
    tables: list[dict[str, str]] = [{"a": "b"}, {"a": "c"}]
    assert ScriptedChat(tables[0]).identity != ScriptedChat(tables[1]).identity


def test_a_table_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"*": "yes"}')
    model = ScriptedChat.read(path, price=Price(1.0, 2.0, "the test"))
    assert model.name == "scripted:table.json"
    assert complete(model, request())[0].text == "yes"
    assert model.price == Price(1.0, 2.0, "the test")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', None])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "table.json").write_text(content)
    with pytest.raises(ModelError, match=r"table\.json"):
        ScriptedChat.read(tmp_path / "table.json")
