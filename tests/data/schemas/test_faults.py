"""A fault says where in the row, what is wrong, and which name was meant."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nexa.data.schemas.faults import MOST_FAULTS, Fault, faults_of, pointer_of

TEXT = {"type": "string", "pattern": r"\S"}


@pytest.mark.parametrize(
    ("schema", "row", "pointer", "problem"),
    [
        ({"required": ["role"]}, {"rol": 1}, "", "has no 'role': key 'rol' - did you mean 'role'?"),
        ({"required": ["role"]}, {}, "", "has no 'role'"),
        ({"properties": {"a": {"type": "string"}}}, {"a": 3}, "/a", "is a number, not a text"),
        (
            {"properties": {"a": {"type": ["integer", "null"]}}},
            {"a": "x"},
            "/a",
            "is a text, not a whole number or null",
        ),
        (
            {"properties": {"a": {"enum": ["user", "assistant"]}}},
            {"a": "asistant"},
            "/a",
            "is 'asistant' - did you mean 'assistant'?",
        ),
        (
            {"properties": {"a": {"enum": ["x", 1]}}},
            {"a": "y" * 99},
            "/a",
            f"is '{'y' * 40}...'; known: x, 1",
        ),
        ({"properties": {"a": {"enum": ["x"]}}}, {"a": [1]}, "/a", "is [1]; known: x"),
        ({"properties": {"a": TEXT}}, {"a": "  "}, "/a", "is empty"),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "y"}, "/a", "does not match '^x'"),
        ({"properties": {"a": {"minLength": 1}}}, {"a": ""}, "/a", "is empty"),
        ({"properties": {"a": {"minItems": 3}}}, {"a": [1]}, "/a", "has 1, fewer than 3"),
        (
            {"properties": {"a": {"maximum": 1}}},
            {"a": 3},
            "/a",
            "3 is greater than the maximum of 1",
        ),
        (
            {"properties": {"name": {}}, "additionalProperties": False},
            {"nam": 1},
            "",
            "has keys that are not known: 'nam' - did you mean 'name'?",
        ),
        (
            {"additionalProperties": False},
            dict.fromkeys("abcdefg"),
            "",
            "has keys that are not known: 'a', 'b', 'c', 'd', 'e' and 2 more",
        ),
        (
            {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "array"}]}}},
            {"a": 3},
            "/a",
            "is a number that fits none of the ways that it may be written",
        ),
        (
            {
                "properties": {
                    "a": {"anyOf": [TEXT, {"type": "array", "items": {"required": ["role"]}}]}
                }
            },
            {"a": [{"role": "user"}, {}]},
            "/a/1",
            "has no 'role'",
        ),
        ({"properties": {"a/b~": {"const": 1}}}, {"a/b~": 2}, "/a~1b~0", "1 was expected"),
    ],
)
def test_a_fault_says_where_and_what(
    schema: dict[str, Any], row: dict[str, Any], pointer: str, problem: str
) -> None:
    (fault,) = faults_of(Draft202012Validator(schema), row)
    assert (fault.pointer, fault.problem) == (pointer, problem)


def test_faults_are_counted_by_kind_whatever_their_numbers() -> None:
    assert Fault("/messages/17/role", "p", "no 'x'").group == "no 'x' at /messages/*/role"
    assert Fault("/3", "p", "k").group == "k at /*"
    assert Fault("", "p", "k").group == "k at (row)"
    assert pointer_of(["a", 3]) == "/a/3"


def test_a_row_with_no_end_of_faults_tells_the_first() -> None:
    validator = Draft202012Validator({"additionalProperties": {"type": "string"}})
    found = faults_of(validator, {str(n): n for n in range(1000)})
    assert len(found) == MOST_FAULTS


def test_long_words_of_the_schemas_own_are_cut() -> None:
    validator = Draft202012Validator({"properties": {"a": {"const": "x" * 5000}}})
    (fault,) = faults_of(validator, {"a": "y"})
    assert len(fault.problem) < 250
