"""Answers that must be one JSON object: structured extraction.

An answer is read strictly: the whole of it, without fences or words around it, is one JSON value.
What a program that reads the answers would choke on is no answer. Nested objects are compared
field by field, each named by its JSON Pointer (RFC 6901); a list is one field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jsonschema import Draft202012Validator

from nexa.eval.tasks.task import Grade, Grader, Metric, Task

METRICS = (
    Metric("exact", 1, "1 if the record equals the target, field for field"),
    Metric("valid_json", 1, "1 if the whole answer is one JSON value"),
    Metric("schema", 1, "1 if it is an object with the target's fields, each of a type seen there"),
    Metric("field_accuracy", 1, "share of the target's fields that the answer has right"),
    Metric("field_f1", 1, "harmonic mean of the shares right of the answer's and target's fields"),
)

# JSON Schema's names; every number is "number": 1811 and 1811.0 are the same value.
TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


def fits(targets: Sequence[str]) -> bool:
    """Whether every target is a JSON object."""
    return bool(targets) and all(isinstance(read(target), dict) for target in targets)


def grader(targets: Sequence[str]) -> Grader:
    """How one answer is marked, given the types that the fields of all targets have."""
    seen: dict[str, set[str]] = {}
    for target in targets:
        for path, value in fields(read(target)).items():
            seen.setdefault(path, set()).add(_type(value))
    return lambda answer, target: _grade(read(answer), read(target), seen)


def read(text: str) -> Any:
    """The JSON value that `text` is, or UNREADABLE.

    NaN and infinities are not JSON; a name given twice in one object leaves open which was meant.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_only_once)
    except (ValueError, RecursionError):
        return UNREADABLE


def fields(value: Any, pointer: str = "") -> dict[str, Any]:
    """The leaves of an object by JSON Pointer; an empty object inside another is a leaf itself."""
    if not isinstance(value, dict) or (not value and pointer):
        return {pointer: value}
    leaves: dict[str, Any] = {}
    for name, item in value.items():
        leaves.update(fields(item, _step(pointer, name)))
    return leaves


def equal(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 is 1.0; 1 is neither "1" nor true."""
    if _type(a) != _type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return bool(a == b)


def _grade(answer: Any, target: dict[str, Any], seen: Mapping[str, set[str]]) -> Grade:
    fits_schema = Draft202012Validator(_schema(target, seen)).is_valid(answer)
    return compare(answer, target, fits_schema)


def compare(answer: Any, target: dict[str, Any], fits_schema: bool) -> Grade:
    """Every metric of an answer that was read.

    An answer that is no object has every field missing: that is the model's failure, a true 0.
    `missing` fields are those the answer does not have, `wrong` those it has with another value,
    `extra` those that nobody asked for.
    """
    wanted = fields(target)
    given = fields(answer) if isinstance(answer, dict) else {}
    right = sum(path in given and equal(given[path], value) for path, value in wanted.items())
    missing = sum(path not in given for path in wanted)
    scores = {
        "exact": float(equal(answer, target)),
        "valid_json": float(answer is not UNREADABLE),
        "schema": float(fits_schema),
        "field_accuracy": right / len(wanted) if wanted else float(not given),
        "field_f1": 2 * right / (len(given) + len(wanted)) if given or wanted else 1.0,
    }
    detail = {
        "unparsable": int(answer is UNREADABLE),
        "fields": len(wanted),
        "missing": missing,
        "wrong": len(wanted) - missing - right,
        "extra": sum(path not in wanted for path in given),
    }
    return Grade(scores, detail)


def _schema(target: dict[str, Any], seen: Mapping[str, set[str]], at: str = "") -> dict[str, Any]:
    """A JSON Schema of exactly the target's fields, with the types seen in all targets."""
    properties = {}
    for name, value in target.items():
        pointer = _step(at, name)
        if isinstance(value, dict) and value:
            properties[name] = _schema(value, seen, pointer)
        else:
            properties[name] = {"type": sorted(seen.get(pointer, {_type(value)}))}
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(target),
        "additionalProperties": False,
    }


def _step(pointer: str, name: str) -> str:
    return f"{pointer}/" + name.replace("~", "~0").replace("/", "~1")


def _type(value: Any) -> str:
    return TYPES.get(type(value), "none of JSON's")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name is given twice")
    return made


class _Unreadable:
    """What text is that is not one JSON value."""


UNREADABLE = _Unreadable()

JSON_RECORD = Task(
    name="json_record",
    about="the answer is one JSON object",
    metrics=METRICS,
    primary="exact",
    parser="strict-json/1",
    fits=fits,
    grader=grader,
)
