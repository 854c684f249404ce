from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.eval.tasks.extract import by_pattern
from nexa.eval.tasks.json_schema import json_schema_task

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"metal": {"$ref": "#/$defs/name"}, "batch": {"type": "integer"}},
    "required": ["metal"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "minLength": 2}},
}
TARGET = '{"metal": "iron", "batch": 4}'


def test_an_answer_is_valid_right_or_neither() -> None:
    grade = json_schema_task("s", "", schema=SCHEMA).grader([TARGET])
    right = grade('{"batch": 4, "metal": "iron"}', TARGET)
    assert set(right.scores.values()) == {1.0}
    valid = grade('{"metal": "gold"}', TARGET)
    assert (valid.scores["schema"], valid.scores["exact"]) == (1, 0)
    assert valid.scores["field_accuracy"] == 0
    assert (valid.detail["wrong"], valid.detail["missing"]) == (1, 1)
    invalid = grade('{"metal": "i", "batch": 4}', TARGET)
    assert (invalid.scores["schema"], invalid.scores["valid_json"]) == (0, 1)
    broken = grade("iron", TARGET)
    assert (broken.scores["valid_json"], broken.detail["unparsable"]) == (0, 1)


def test_the_json_may_be_cut_out_of_the_answer() -> None:
    task = json_schema_task("s", "", schema=SCHEMA, extract=by_pattern(r"```json\n(.*)\n```", 1))
    grade = task.grader([TARGET])
    assert grade(f"So:\n```json\n{TARGET}\n```", TARGET).scores["exact"] == 1
    assert grade(TARGET, TARGET).detail["unparsable"] == 1


@pytest.mark.parametrize(
    ("target", "found"), [("iron", "iron"), ("[1]", r"\[1\]"), ('{"metal": 1}', "not of type")]
)
def test_targets_must_be_objects_of_the_schema(target: str, found: str) -> None:
    task = json_schema_task("s", "", schema=SCHEMA)
    assert task.fits([TARGET])
    assert not task.fits([])
    with pytest.raises(EvalError, match=f"schema of task s takes(.|\n)*{found}"):
        task.fits([TARGET, target])


@pytest.mark.parametrize(
    "reference", ["https://example.org/s.json", "other.json#/$defs/name", 7, "file:///etc/passwd"]
)
def test_a_schema_refers_to_nothing_outside_itself(reference: Any) -> None:
    for schema in (
        {"properties": {"a": {"$ref": reference}}},
        {"allOf": [{"$dynamicRef": reference}]},
    ):
        with pytest.raises(EvalError, match="outside itself"):
            json_schema_task("s", "", schema=schema)


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(EvalError, match=r"no JSON Schema(.|\n)*at properties/a/type"):
        json_schema_task("s", "", schema={"properties": {"a": {"type": "text"}}})
    with pytest.raises(EvalError, match="a place it does not have"):
        json_schema_task("s", "", schema={"$ref": "#/$defs/nowhere"})
