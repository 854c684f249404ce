"""The shapes a row may have, and how one is recognised.

Every shape turns a JSON object into a `rows.Content`: a conversation that ends with an answer,
and labels. All take the optional keys of `fields.LABELS`: domain, source, quality_score, group
(what the row belongs to: rows of a group stay in one split, and intervals are clustered by it)
and id. A package adds a shape with an entry point in the group `nexa.schema`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from nexa.core.errors import nearest
from nexa.core.plugins import Registry
from nexa.data.schemas.completion import COMPLETION
from nexa.data.schemas.fields import LABELS, RowProblem, Shape
from nexa.data.schemas.messages import MESSAGES
from nexa.data.schemas.record import RECORD

__all__ = ["LABELS", "SCHEMAS", "RowProblem", "Shape", "accepted", "missing_keys", "shape_of"]

# In the order in which they are tried: `record` and `completion` both have a prompt.
SCHEMAS: Registry[Shape] = Registry(
    "schema", {shape.name: shape for shape in (MESSAGES, RECORD, COMPLETION)}
)

# What other tools call these keys.
OTHER_NAMES = {
    "conversation": ("messages",),
    "conversations": ("messages",),
    "dialogue": ("messages",),
    "instruction": ("prompt",),
    "question": ("prompt",),
    "query": ("prompt",),
    "response": ("completion",),
    "output": ("completion",),
    "answer": ("target_answer", "completion"),
    "target": ("target_answer", "completion"),
}


def shape_of(keys: Iterable[str]) -> str | None:
    """The shape whose required keys are all there, or None."""
    there = set(keys)
    return next((name for name in _names() if there >= set(SCHEMAS[name].required)), None)


def missing_keys(data: Mapping[str, Any], shape: Shape | None) -> str:
    """Why an object is not of a shape (of any, if None): names the keys that were meant."""
    shapes = [shape] if shape else [SCHEMAS[name] for name in _names()]
    wanted = [key for s in shapes for key in s.required if key not in data]
    known = {key for s in shapes for key in s.known}
    pairs = [(key, _meant(key, wanted)) for key in data if key not in known]
    hints = [f"key {key!r} - did you mean {meant!r}?" for key, meant in pairs if meant]
    if hints:
        return f"{', '.join(hints)} {accepted()}"
    keys = ", ".join(map(repr, data)) or "no keys"
    if shape:
        return f"no key {wanted[0]!r} (the file is {shape.name!r}); it has {keys}"
    return f"no accepted shape: it has {keys}. {accepted()}"


def _meant(key: str, wanted: Sequence[str]) -> str | None:
    """The wanted key that another one stands for: mistyped, abbreviated, or another tool's name."""
    word = key.lower()
    other = next((name for name in OTHER_NAMES.get(word, ()) if name in wanted), None)
    if other or (near := nearest(word, wanted)):
        return other or near
    if len(word) < 3:
        return None
    letters = re.compile(".*".join(map(re.escape, word)))
    return next((name for name in wanted if letters.match(name)), None)


def accepted() -> str:
    """The accepted shapes in one line."""
    shapes = [f"{{{', '.join(SCHEMAS[name].required)}}}" for name in _names()]
    return "Accepted shapes: " + ", ".join(shapes)


@cache
def _names() -> list[str]:
    """Built-in shapes first, in the order of the table; asked for every row, so kept."""
    built_in = ["messages", "record", "completion"]
    return built_in + [name for name in SCHEMAS.names() if name not in built_in]
