"""What a JSON Schema finds wrong with a row: where, what, and which name was meant."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable

from nexa.core.errors import DataError, nearest
from nexa.core.values import kind

MOST_FAULTS = 20  # of one row: the rest is told once these are mended
LONGEST_VALUE = 40  # characters of a value that are shown
_TYPES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a row. `kind` counts it among those like it."""

    pointer: str
    problem: str
    kind: str

    @property
    def group(self) -> str:
        """The kind with its place, whatever the numbers in it: `missing 'role' at /messages/*`."""
        return f"{self.kind} at {re.sub(r'/[0-9]+(?=/|$)', '/*', self.pointer) or '(row)'}"


def faults_of(validator: Validator, row: Mapping[str, Any]) -> list[Fault]:
    """What a schema finds in a row, ordered by place.

    Raises:
        DataError: the schema leads back to itself without end, or to nothing.
    """
    try:
        errors = sorted(validator.iter_errors(row), key=lambda error: error.json_path)
    except RecursionError as error:
        raise DataError(
            "the schema cannot be used: it leads back to itself without end",
            fix="let each $ref go down into the row: properties, items",
        ) from error
    except Unresolvable as error:
        raise DataError(
            "the schema cannot be used: it refers to nothing", found=str(error)
        ) from error
    return [_fault(error) for error in errors[:MOST_FAULTS]]


def pointer_of(path: Iterable[str | int]) -> str:
    """A path into a row as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _fault(error: ValidationError) -> Fault:
    """One error of jsonschema; of several ways that all failed, the one that went deepest."""
    if error.validator in ("anyOf", "oneOf"):
        # A way whose kind of value it is was meant, rather than one for another kind.
        meant = [one for one in error.context or () if one.validator != "type"]
        if meant:
            return _fault(max(meant, key=lambda one: len(one.absolute_path)))
    explain = _EXPLAINED.get(str(error.validator))
    place = pointer_of(error.absolute_path)
    if explain is None:
        return Fault(place, _cut(error.message), f"{error.validator} not met")
    problem, kind_ = explain(error)
    return Fault(place, problem, kind_)


def _required(error: Any) -> tuple[str, str]:
    """A key that is missing, and the one that may have been meant for it."""
    key = next(k for k in error.validator_value if error.message.startswith(repr(k)))
    others = [k for k in error.instance if k not in error.schema.get("properties", {})]
    near = nearest(key, others)
    meant = f": key {_shown(near)} - did you mean {key!r}?" if near else ""
    return f"has no {key!r}{meant}", f"no {key!r}"


def _additional(error: Any) -> tuple[str, str]:
    properties = error.schema.get("properties", {})
    extra = [key for key in error.instance if key not in properties]
    told = []
    for key in extra[:5]:
        near = nearest(key, [name for name in properties if name not in error.instance])
        told.append(_shown(key) + (f" - did you mean {near!r}?" if near else ""))
    more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
    return f"has keys that are not known: {', '.join(told)}{more}", "unknown keys"


def _type(error: Any) -> tuple[str, str]:
    wanted = error.validator_value
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    words = " or ".join(_TYPES.get(str(name), str(name)) for name in names)
    return f"is {kind(error.instance)}, not {words}", f"not {words}"


def _enum(error: Any) -> tuple[str, str]:
    allowed = [str(value) for value in error.validator_value]
    near = nearest(str(error.instance)[:LONGEST_VALUE], allowed)
    meant = f" - did you mean {near!r}?" if near else f"; known: {_cut(', '.join(allowed))}"
    return f"is {_shown(error.instance)}{meant}", "unknown value"


def _pattern(error: Any) -> tuple[str, str]:
    if error.validator_value == r"\S":
        return "is empty", "empty"
    return f"does not match {_shown(error.validator_value)}", "pattern not met"


def _least(error: Any) -> tuple[str, str]:
    if not error.instance:
        return "is empty", "empty"
    return f"has {len(error.instance)}, fewer than {error.validator_value}", "too short"


def _any(error: Any) -> tuple[str, str]:
    found = kind(error.instance)
    return f"is {found} that fits none of the ways that it may be written", "fits no way"


_EXPLAINED: Mapping[str, Callable[[Any], tuple[str, str]]] = {
    "required": _required,
    "additionalProperties": _additional,
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minLength": _least,
    "minItems": _least,
    "anyOf": _any,
    "oneOf": _any,
}


def _shown(value: Any) -> str:
    """A value, short enough for a line."""
    if isinstance(value, str):
        return repr(value) if len(value) <= LONGEST_VALUE else repr(value[:LONGEST_VALUE] + "...")
    return _cut(json.dumps(value, ensure_ascii=False, default=str), LONGEST_VALUE)


def _cut(text: str, longest: int = 200) -> str:
    return text if len(text) <= longest else text[:longest] + "..."
