"""What all shapes share: the labels of a row, and checks of single values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import nearest
from nexa.core.values import kind
from nexa.data.rows import Content

LABELS = ("domain", "source", "quality_score", "group", "id")
ROLES = ("system", "developer", "user", "assistant", "tool")


class RowProblem(ValueError):
    """Why one row cannot be taken; the file goes on.

    `pointer` is where in the row, as a JSON pointer: `place` is written `messages[1].role`.
    """

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(problem)
        self.pointer = "".join(f"/{step}" for step in re.findall(r"[^.\[\]]+", place))


@dataclass(frozen=True)
class Shape:
    """A row format: the keys it must and may have, its JSON Schema, and what it makes of a row.

    `also` has other sets of keys that do in place of `required`. `convert` raises `RowProblem` for
    a row that has the keys but not the values.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    json_schema: Mapping[str, Any]
    convert: Callable[[Mapping[str, Any]], Content]
    also: tuple[tuple[str, ...], ...] = ()

    @property
    def key_sets(self) -> tuple[tuple[str, ...], ...]:
        """Every set of keys that a row of this shape may have."""
        return (self.required, *self.also)

    @property
    def known(self) -> tuple[str, ...]:
        """Every key that is read."""
        needed = dict.fromkeys(key for keys in self.key_sets for key in keys)
        return (*needed, *self.optional, *LABELS)

    def fits(self, data: Iterable[str]) -> tuple[str, ...] | None:
        """The set of keys that a row has all of, or None."""
        there = set(data)
        return next((keys for keys in self.key_sets if there.issuperset(keys)), None)


# A text that is not blank.
TEXT_SCHEMA: dict[str, Any] = {"type": "string", "pattern": r"\S"}
LABEL_SCHEMAS: dict[str, Any] = {
    "domain": {"type": ["string", "null"]},
    "source": {"type": ["string", "null"]},
    "quality_score": {"type": ["number", "string", "null"]},  # tables have numbers as texts
    "group": {"type": ["string", "integer", "null"]},
    "id": {"type": ["string", "integer", "null"]},
}
MESSAGES_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"enum": list(ROLES)},
            "content": {"type": ["string", "array"]},
        },
    },
}


def content(data: Mapping[str, Any], messages: list[dict[str, str]]) -> Content:
    """A conversation with the row's labels; checks both.

    Raises:
        RowProblem: the conversation does not end with an answer, or a label has a wrong type.
    """
    if messages[-1]["role"] != "assistant":
        raise RowProblem(
            f"the last turn is {messages[-1]['role']!r}: there is no answer to learn from",
            _place_of(data, messages, len(messages) - 1),
        )
    for number, message in enumerate(messages, start=1):
        if not message["content"].strip():
            place = _place_of(data, messages, number - 1)
            raise RowProblem(f"turn {number} ({message['role']}) is empty", place)
    return labelled(data, messages)


def _place_of(data: Mapping[str, Any], messages: Sequence[Any], number: int) -> str:
    """Where a turn stands in its row; "" where it was made from a key of its own."""
    keys = ("messages", "conversations")
    key = next((key for key in keys if isinstance(data.get(key), list)), "")
    place = number - (len(messages) - len(data[key])) if key else -1
    return f"{key}[{place}]" if place >= 0 else ""


def labelled(data: Mapping[str, Any], messages: Iterable[dict[str, str]]) -> Content:
    """Messages with the row's labels; checks the labels.

    Raises:
        RowProblem: names the label.
    """
    return Content(
        messages=tuple(messages),
        domain=_text(data, "domain"),
        source=_text(data, "source"),
        quality_score=_number(data, "quality_score"),
        group=_name(data, "group"),
        id=_name(data, "id"),
    )


def turns(value: Any, key: str) -> list[dict[str, str]]:
    """A list of messages as role and text.

    Raises:
        RowProblem: names the turn and what is wrong with it.
    """
    if not isinstance(value, list):
        raise RowProblem(f"{key!r} is {kind(value)}, not a list of messages", key)
    if not value:
        raise RowProblem(f"{key!r} has no turns", key)
    return [_turn(item, f"{key}[{i}]") for i, item in enumerate(value)]


def optional_text(data: Mapping[str, Any], key: str) -> str:
    """A text that may be missing, null or blank: "" then.

    Raises:
        RowProblem: it is something else.
    """
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise RowProblem(f"{key!r} is {kind(value)}, not a text", key)
    return value if value and value.strip() else ""


def text(data: Mapping[str, Any], key: str) -> str:
    """A required text.

    Raises:
        RowProblem: it is something else, or blank.
    """
    value = data.get(key)
    if not isinstance(value, str):
        raise RowProblem(f"{key!r} is {kind(value)}, not a text", key)
    if not value.strip():
        raise RowProblem(f"{key!r} is empty", key)
    return value


def _turn(message: Any, place: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise RowProblem(f"{place} is {kind(message)}, not a message", place)
    for key in ("role", "content"):
        if key not in message:
            near = next((k for k in message if nearest(k, [key])), None)
            meant = f": key {near!r} - did you mean {key!r}?" if near else ""
            raise RowProblem(f"{place} has no {key!r}{meant}", place)
    if message["role"] not in ROLES:
        near = nearest(str(message["role"]), ROLES)
        meant = f" - did you mean {near!r}?" if near else f"; known: {', '.join(ROLES)}"
        role = f"{message['role']!r}{meant}"
        raise RowProblem(f"{place} has the role {role}", f"{place}.role")
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            problem = f"{place} calls a tool, which no template here is checked for"
            raise RowProblem(problem, f"{place}.{key}")
    if message.get("weight") == 0:
        raise RowProblem(f"{place} has weight 0: every assistant turn is trained", place)
    return {"role": message["role"], "content": said(message["content"], place)}


def said(value: Any, place: str) -> str:
    """A turn's text; a list of parts, as OpenAI writes it, is joined if all are text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowProblem(f"{place}: its content is {kind(value)}, not a text", place)
    parts = []
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            what = part.get("type") if isinstance(part, dict) else kind(part)
            raise RowProblem(f"{place} has a part that is no text: {what}", place)
        parts.append(part["text"])
    return "".join(parts)


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise RowProblem(f"{key!r} is {kind(value)}, not a text", key)
    return value or None


def _name(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(data, key)


def _number(data: Mapping[str, Any], key: str) -> float | None:
    """A label's number; tables without types have it as a text, blank where there is none."""
    value = data.get(key)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowProblem(f"{key!r} is {kind(value)}, not a finite number", key)
    return number
