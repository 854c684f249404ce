"""Answers that must be JSON of one schema, which the task carries: validity, and field by field.

The schema is of draft 2020-12. A `$ref` leads to a place inside it and nowhere else: nothing is
ever fetched. A target is an object that the schema takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from nexa.core.errors import EvalError
from nexa.eval.tasks.extract import Extract, whole
from nexa.eval.tasks.json_record import UNREADABLE, compare, read
from nexa.eval.tasks.task import Grade, Metric, Task

METRICS = (
    Metric("schema", 1, "1 if the answer is JSON that the task's schema takes"),
    Metric("valid_json", 1, "1 if the answer is one JSON value"),
    Metric("exact", 1, "1 if the record equals the target, field for field"),
    Metric("field_accuracy", 1, "share of the target's fields that the answer has right"),
    Metric("field_f1", 1, "harmonic mean of the shares right of the answer's and target's fields"),
)
_REFERENCES = ("$ref", "$dynamicRef")


def json_schema_task(
    name: str, about: str, *, schema: Mapping[str, Any], extract: Extract = whole
) -> Task:
    """A task with this schema.

    Raises:
        EvalError: no JSON Schema, or one that refers to something outside itself.
    """
    validator = _validator(schema)

    def fits(targets: Sequence[str]) -> bool:
        for target in targets:
            value = read(target)
            if not isinstance(value, dict) or not validator.is_valid(value):
                raise EvalError(
                    f"a held-out answer is no object that the schema of task {name} takes",
                    found=_why(validator, value, target),
                )
        return bool(targets)

    def grade(answer: str, target: str) -> Grade:
        part = extract(answer)
        value = UNREADABLE if part is None else read(part)
        # `is_valid` knows no value but JSON's: what could not be read is never handed to it.
        valid = value is not UNREADABLE and validator.is_valid(value)
        return compare(value, read(target), valid)

    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="schema",
        parser="strict-json/1",
        fits=fits,
        grader=lambda targets: grade,
        reader=extract,
    )


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    for reference in _references(schema):
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise EvalError(
                "a task's schema refers to something outside itself",
                found=repr(reference),
                fix="put it under $defs, and refer to it as #/$defs/NAME",
            )
    try:
        Draft202012Validator.check_schema(schema)
        made = Draft202012Validator(schema, registry=Registry())
        for reference in _references(schema):
            made._resolver.lookup(reference)  # type: ignore[attr-defined]
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        raise EvalError(
            "a task's schema is no JSON Schema", found=f"at {place}: {error.message}"
        ) from error
    except Unresolvable as error:
        raise EvalError(
            "a task's schema refers to a place it does not have", found=str(error)
        ) from error
    return made


def _references(schema: Any) -> Iterator[Any]:
    """Every reference in it; a property that is called `$ref` is refused like one."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in _REFERENCES:
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from _references(value)


def _why(validator: Draft202012Validator, value: Any, target: str) -> str:
    if not isinstance(value, dict):
        return target[:80]
    return next(str(error.message) for error in validator.iter_errors(value))
