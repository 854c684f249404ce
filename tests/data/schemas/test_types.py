"""Every dataset type has a JSON Schema that takes its rows and refuses what they must not be."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from nexa.data.schemas import BUILT_IN, RowProblem
from nexa.data.schemas.types import dataset_types, type_of

HYPOTHESIS = {
    "context": "Iron melts at 1811 K.",
    "prompt": "Propose.",
    "target_answer": {"hypothesis": "h", "methodology": "m", "risks": "r"},
    "domain": "metals",
    "source": "human",
    "quality_score": 0.5,
}
TURN = {"role": "user", "content": "q"}
SAID = {"role": "assistant", "content": "a"}
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("sft", {"prompt": "q", "completion": "a"}),
    ("sft", {"text": "Iron."}),
    ("sft", {"prompt": "q", "target_answer": {"k": 1811}}),
    ("chat", {"messages": [TURN, SAID]}),
    ("chat", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("preference", {"prompt": [TURN], "chosen": [SAID], "rejected": "b", "group": 3}),
    ("preference", {"chosen": [TURN, SAID], "rejected": [SAID]}),
    (
        "preference",
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
    ),
    ("distill", {"prompt": "q", "completion": "a", "teacher": "gpt-4o", "parents": ["x"]}),
    (
        "distill",
        {
            "prompt": [TURN],
            "completion": "a",
            "teacher": "t",
            "logprobs": [{"token": "a", "logprob": -0.1}],
        },
    ),
    ("hypothesis", HYPOTHESIS),
    ("hypothesis", {**HYPOTHESIS, "group": "iron", "id": 7}),
    ("eval", {"prompt": "q", "target": "a", "id": "1", "group": "g"}),
    ("eval", {"prompt": [TURN], "target": {"k": 1}, "id": 1}),
]


@pytest.mark.parametrize(("name", "row"), GOOD)
def test_a_good_row_is_told_and_taken(name: str, row: dict[str, Any]) -> None:
    told = type_of(row)
    assert told is not None
    assert told[0] == name
    type_ = dataset_types()[name]
    jsonschema.validate(row, type_.json_schema, jsonschema.Draft202012Validator)
    variant = type_.variant_of(row)
    assert variant.held(row)[0]
    variant.check(row)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("preference", {"prompt": "q", "chosen": "a"}),
        ("distill", {"prompt": "q", "completion": "a", "teacher": ""}),
        ("distill", {"prompt": "q", "completion": "a", "teacher": "t", "logprobs": [{"token": 1}]}),
        ("hypothesis", {**HYPOTHESIS, "source": "teacher"}),
        ("hypothesis", {**HYPOTHESIS, "quality_score": "0.5"}),
        ("hypothesis", {**HYPOTHESIS, "target_answer": {"hypothesis": "h", "methodology": "m"}}),
        ("hypothesis", {**HYPOTHESIS, "note": "x"}),
        ("hypothesis", {key: HYPOTHESIS[key] for key in list(HYPOTHESIS)[1:]}),
        ("eval", {"prompt": "q", "target": None, "id": "1"}),
        ("eval", {"prompt": "q", "target": "a"}),
    ],
)
def test_a_bad_row_is_refused(name: str, row: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(row, dataset_types()[name].json_schema)


@pytest.mark.parametrize(
    ("row", "pointer"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "/rejected"),
        ({"chosen": [SAID, TURN], "rejected": [SAID]}, "/chosen/1"),
    ],
)
def test_a_pair_must_be_two_answers(row: dict[str, Any], pointer: str) -> None:
    with pytest.raises(RowProblem) as caught:
        dataset_types()["preference"].variant_of(row).check(row)
    assert caught.value.pointer == pointer


def test_every_schema_is_one_and_can_be_written_down() -> None:
    for type_ in dataset_types().values():
        schema = json.loads(json.dumps(type_.json_schema))
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"].endswith("2020-12/schema")
        assert schema["title"] == type_.name


def test_sft_is_every_shape_that_is_trained_on() -> None:
    variants = {variant.name for variant in dataset_types()["sft"].variants}
    assert {shape.name for shape in BUILT_IN} <= variants


def test_keys_that_say_nothing_have_no_type() -> None:
    assert type_of({"x": 1}) is None
    assert type_of({"prompt": "q", "target_answer": {"risk": "r"}}) == (
        "sft",
        ("prompt", "target_answer"),
    )
