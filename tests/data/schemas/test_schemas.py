"""Each shape makes one conversation of a row, or says which key or turn is wrong."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from nexa.core.values import kind
from nexa.data.schemas import BUILT_IN, SCHEMAS, RowProblem, missing_keys, shape_of, shapes_of


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


GOOD: list[tuple[str, dict[str, Any], list[dict[str, str]]]] = [
    (
        "record",
        {"context": "Iron melts at 1811 K.", "prompt": "As JSON.", "target_answer": {"k": 1811.0}},
        [user("Iron melts at 1811 K.\n\nAs JSON."), assistant('{"k": 1811.0}')],
    ),
    (
        "record",
        {"prompt": "Name one.", "target_answer": "Köln\n", "context": None},
        [user("Name one."), assistant("Köln\n")],
    ),
    (
        "record",
        {"context": "  ", "prompt": "Name.", "target_answer": ["ä", None, True]},
        [user("Name."), assistant('["ä", null, true]')],
    ),
    ("record", {"prompt": "2 + 2", "target_answer": 4}, [user("2 + 2"), assistant("4")]),
    (
        "messages",
        {"messages": [{"role": "system", "content": "s"}, user("q"), assistant("a")]},
        [{"role": "system", "content": "s"}, user("q"), assistant("a")],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
                {"role": "assistant", "content": "c", "weight": 1, "name": "x"},
            ]
        },
        [user("ab"), assistant("c")],
    ),
    ("completion", {"prompt": "q", "completion": "a"}, [user("q"), assistant("a")]),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "GPT", "value": [{"text": "a"}], "weight": 1},
                {"role": "observation", "content": "o"},
                {"role": "bot", "content": "b"},
            ],
            "system": "s",
        },
        [
            {"role": "system", "content": "s"},
            user("q"),
            assistant("a"),
            {"role": "tool", "content": "o"},
            assistant("b"),
        ],
    ),
    (
        "alpaca",
        {"instruction": "i", "input": "x", "output": "o", "system": "", "history": None},
        [user("i\n\nx"), assistant("o")],
    ),
    (
        "alpaca",
        {"instruction": "i", "input": " ", "output": "o", "system": "s", "history": [["q", "a"]]},
        [{"role": "system", "content": "s"}, user("q"), assistant("a"), user("i"), assistant("o")],
    ),
    (
        "alpaca",
        {"instruction": "i", "context": "c", "response": "r"},
        [user("i\n\nc"), assistant("r")],
    ),
    ("question-answer", {"question": "q", "answer": "a"}, [user("q"), assistant("a")]),
    (
        "question-answer",
        {"query": "q", "response": "a", "context": "c", "system_prompt": "s"},
        [{"role": "system", "content": "s"}, user("c\n\nq"), assistant("a")],
    ),
    ("text", {"text": " Iron.\n"}, [{"role": "text", "content": " Iron.\n"}]),
    (
        "completion",
        {"prompt": [{"role": "system", "content": "s"}, user("q")], "completion": [assistant("a")]},
        [{"role": "system", "content": "s"}, user("q"), assistant("a")],
    ),
]


@pytest.mark.parametrize(("name", "data", "messages"), GOOD)
def test_a_good_row_becomes_a_conversation(
    name: str, data: dict[str, Any], messages: list[dict[str, str]]
) -> None:
    assert shape_of(data) == name
    assert list(SCHEMAS[name].convert(data).messages) == messages
    jsonschema.validate(data, SCHEMAS[name].json_schema)


def test_labels_are_read() -> None:
    labels = {"domain": "metals", "source": "human", "quality_score": 1, "group": 26, "id": "fe"}
    content = SCHEMAS["completion"].convert({"prompt": "q", "completion": "a", **labels})
    assert content.domain == "metals"
    assert content.source == "human"
    assert content.quality_score == 1.0
    assert (content.group, content.id) == ("26", "fe")


def test_blank_labels_are_none() -> None:
    labels = {"domain": "", "source": None, "quality_score": "", "group": ""}
    content = SCHEMAS["completion"].convert({"prompt": "q", "completion": "a", **labels})
    assert (content.domain, content.source, content.quality_score, content.group) == (None,) * 4


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"prompt": 3, "target_answer": "a"}, "'prompt' is a number, not a text"),
        ({"prompt": " ", "target_answer": "a"}, "'prompt' is empty"),
        ({"prompt": "q", "target_answer": None}, "'target_answer' is null"),
        ({"prompt": "q", "target_answer": {}}, "'target_answer' is empty"),
        ({"prompt": "q", "target_answer": " "}, "turn 2 (assistant) is empty"),
        ({"prompt": "q", "target_answer": "a", "context": []}, "'context' is a list, not a text"),
        ({"prompt": "q", "completion": True}, "'completion' is true or false, not a text"),
        ({"prompt": "q", "completion": []}, "'completion' has no turns"),
        ({"prompt": "q", "completion": "a", "domain": {}}, "'domain' is an object, not a text"),
        (
            {"prompt": "q", "completion": "a", "quality_score": "high"},
            "'quality_score' is a text, not a finite number",
        ),
        (
            {"prompt": "q", "completion": "a", "quality_score": float("inf")},
            "'quality_score' is a number, not a finite number",
        ),
        ({"prompt": "q", "completion": "a", "group": True}, "'group' is true or false"),
        ({"messages": "hello"}, "'messages' is a text, not a list of messages"),
        ({"messages": ["hello"]}, "messages[0] is a text, not a message"),
        ({"messages": [{"role": "user"}]}, "messages[0] has no 'content'"),
        (
            {"messages": [{"rol": "user", "content": "q"}]},
            "messages[0] has no 'role': key 'rol' - did you mean 'role'?",
        ),
        (
            {"messages": [{"role": "asistant", "content": "q"}]},
            "messages[0] has the role 'asistant' - did you mean 'assistant'?",
        ),
        ({"messages": [{"role": "x", "content": "q"}]}, "has the role 'x'; known: system"),
        ({"messages": [user("q")]}, "the last turn is 'user': there is no answer"),
        ({"messages": [user(""), assistant("a")]}, "turn 1 (user) is empty"),
        ({"messages": [user(None), assistant("a")]}, "its content is null, not a text"),
        (
            {"messages": [user([{"type": "image_url"}]), assistant("a")]},
            "messages[0] has a part that is no text: image_url",
        ),
        ({"messages": [user(["x"]), assistant("a")]}, "a part that is no text: a text"),
        ({"conversations": 1}, "'conversations' is a number, not a list of turns"),
        ({"conversations": []}, "'conversations' has no turns"),
        ({"conversations": ["hi"]}, "conversations[0] is a text, not a turn"),
        (
            {"conversations": [{"form": "human", "value": "q"}]},
            "conversations[0] has no 'from': key 'form' - did you mean 'from'?",
        ),
        ({"conversations": [{"from": "human"}]}, "conversations[0] has no 'value'"),
        (
            {"conversations": [{"from": "robot", "value": "q"}]},
            "conversations[0] is from 'robot', whom nobody knows; known: human, user",
        ),
        ({"conversations": [{"from": None, "value": "q"}]}, "is from null, whom nobody knows"),
        (
            {"conversations": [{"from": "gpt", "value": "a", "weight": 0}]},
            "conversations[0] has weight 0",
        ),
        ({"conversations": [{"from": "human", "value": "q"}]}, "the last turn is 'user'"),
        ({"instruction": "i", "output": ""}, "'output' is empty"),
        ({"instruction": "i", "output": "o", "input": 3}, "'input' is a number, not a text"),
        ({"instruction": "i", "output": "o", "history": "h"}, "'history' is a text, not a list"),
        (
            {"instruction": "i", "output": "o", "history": [["q", "a"], ["q"]]},
            "history[1] is not a question and an answer",
        ),
        ({"instruction": "i", "output": "o", "history": ["qa"]}, "history[0] is not a question"),
        ({"question": "q", "answer": None}, "'answer' is null, not a text"),
        ({"text": 3}, "'text' is a number, not a text"),
        ({"text": " "}, "'text' is empty"),
        ({"text": "a", "quality_score": 10**400}, "not a finite number"),
        ({"text": "a", "quality_score": True}, "'quality_score' is true or false"),
        (
            {"messages": [user("q"), {**assistant("a"), "tool_calls": [{}]}]},
            "messages[1] calls a tool",
        ),
        ({"messages": [user("q"), {**assistant("a"), "weight": 0}]}, "messages[1] has weight 0"),
    ],
)
def test_a_bad_row_says_which_key_or_turn(data: dict[str, Any], problem: str) -> None:
    name = shape_of(data)
    assert name is not None
    with pytest.raises(RowProblem) as caught:
        SCHEMAS[name].convert(data)
    assert problem in str(caught.value)


def test_a_key_that_was_meant_is_named() -> None:
    assert shape_of({"msgs": []}) is None
    why = missing_keys({"msgs": []}, None)
    assert why.startswith("key 'msgs' - did you mean 'messages'? Accepted shapes: {messages}")
    why = missing_keys({"msgs": [], "answer": "a"}, None)  # nearer to another shape by its count
    assert why.startswith("key 'msgs' - did you mean 'messages'?")
    assert "{prompt, target_answer}, {prompt, completion}" in why


@pytest.mark.parametrize(
    ("keys", "hints"),
    [
        (["Mesages"], "key 'Mesages' - did you mean 'messages'?"),
        (["conversation"], "key 'conversation' - did you mean 'conversations'?"),
        (["content"], "key 'content' - did you mean 'text'?"),
        (["question", "reply"], "key 'reply' - did you mean 'answer'?"),
        (["instruction", "answer"], "key 'answer' - did you mean 'output'?"),
        (["prompt", "response"], "key 'response' - did you mean 'completion'?"),
        (["prompt", "answer"], "key 'answer' - did you mean 'target_answer'?"),
    ],
)
def test_the_names_of_other_tools_are_known(keys: list[str], hints: str) -> None:
    assert missing_keys(dict.fromkeys(keys, "x"), None).startswith(f"{hints} Accepted shapes")


def test_keys_of_no_shape_are_listed() -> None:
    why = missing_keys({"label": "a", "x" * 99: 1}, None)
    assert why.startswith(f"no accepted shape: it has 'label', '{'x' * 40}...'. Accepted shapes")
    why = missing_keys({f"{i}0": i for i in range(20)}, None)
    assert "'70' and 12 more. Accepted" in why
    assert missing_keys({}, None).startswith("no accepted shape: it has no keys")


def test_a_row_of_another_shape_than_its_file_says_which() -> None:
    why = missing_keys({"prompt": "q", "completion": "a"}, SCHEMAS["messages"])
    assert why == "no key 'messages' (the file is 'messages'); it has 'prompt', 'completion'"
    assert "did you mean 'completion'" in missing_keys(
        {"prompt": "q", "completions": "a"}, SCHEMAS["completion"]
    )


def test_a_number_that_is_written_as_text_is_one() -> None:
    assert SCHEMAS["text"].convert({"text": "a", "quality_score": "0.5"}).quality_score == 0.5


def test_a_row_may_fit_several_shapes() -> None:
    keys = ("prompt", "completion", "text", "question", "answer")
    assert shapes_of(keys) == ("completion", "question-answer", "text")
    assert shapes_of(()) == ()


@pytest.mark.parametrize("name", [shape.name for shape in BUILT_IN])
def test_json_schemas_are_schemas_and_refuse_a_row_without_an_answer(name: str) -> None:
    schema = SCHEMAS[name].json_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"prompt": "q"}, schema)


def test_every_json_value_has_a_name() -> None:
    values = json.loads('[null, true, 1, 1.5, "a", [], {}]')
    names = ["null", "true or false", "a number", "a number", "a text", "a list", "an object"]
    assert [kind(value) for value in values] == names
    assert kind(b"x") == "a bytes"
