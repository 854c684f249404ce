"""The shapes a row may have, and how one is recognised.

Every shape turns a JSON object into a `rows.Content`: a conversation that ends with an answer (or
a plain text), and labels. All take the optional keys of `fields.LABELS`: domain, source,
quality_score, group (what the row belongs to: rows of a group stay in one split, and intervals
are clustered by it) and id. A package adds a shape with an entry point in the group `nexa.schema`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from nexa.core.errors import nearest
from nexa.core.plugins import Registry
from nexa.data.schemas.alpaca import ALPACA
from nexa.data.schemas.completion import COMPLETION
from nexa.data.schemas.fields import LABELS, RowProblem, Shape
from nexa.data.schemas.messages import MESSAGES
from nexa.data.schemas.question_answer import QUESTION_ANSWER
from nexa.data.schemas.record import RECORD
from nexa.data.schemas.sharegpt import SHAREGPT
from nexa.data.schemas.text import TEXT

__all__ = [
    "LABELS",
    "SCHEMAS",
    "RowProblem",
    "Shape",
    "accepted",
    "missing_keys",
    "shape_of",
    "shapes_of",
]

# In the order in which they are tried: whole conversations first, the one key `text` last.
BUILT_IN = (MESSAGES, SHAREGPT, RECORD, COMPLETION, ALPACA, QUESTION_ANSWER, TEXT)
SCHEMAS: Registry[Shape] = Registry("schema", {shape.name: shape for shape in BUILT_IN})

MOST_KEYS, LONGEST_KEY = 8, 40  # what an error shows of a row's keys

# What other tools call these keys.
OTHER_NAMES = {
    "conversation": ("conversations", "messages"),
    "dialogue": ("messages",),
    "instruction": ("prompt",),
    "question": ("prompt",),
    "query": ("prompt",),
    "response": ("completion",),
    "reply": ("answer", "response", "completion"),
    "output": ("completion",),
    "answer": ("target_answer", "completion", "output"),
    "target": ("target_answer", "completion"),
    "content": ("text",),
    "document": ("text",),
}


def shape_of(keys: Iterable[str]) -> str | None:
    """The first shape whose required keys are all there, or None."""
    return next(iter(shapes_of(keys)), None)


def shapes_of(keys: Iterable[str]) -> tuple[str, ...]:
    """Every shape whose required keys are all there, the one that is taken first."""
    there = frozenset(keys)
    return tuple(name for name in _names() if SCHEMAS[name].fits(there))


def missing_keys(data: Mapping[str, Any], shape: Shape | None) -> str:
    """Why an object is not of a shape (of any, if None): names the keys that were meant."""
    shapes = [shape] if shape else [SCHEMAS[name] for name in _names()]
    nearest_sets = _nearest_sets(data, [keys for s in shapes for keys in s.key_sets])
    wanted = list(dict.fromkeys(k for keys in nearest_sets for k in keys if k not in data))
    used = {*LABELS, *(shape.known if shape else ())}
    every = list(dict.fromkeys(k for s in shapes for keys in s.key_sets for k in keys))
    hints = _hints(data, wanted, used) or _hints(data, every, {*used, *every})
    if hints:
        return f"{', '.join(hints[:MOST_KEYS])} {accepted()}"
    keys = ", ".join(map(_shown, islice(data, MOST_KEYS))) or "no keys"
    keys += f" and {len(data) - MOST_KEYS} more" if len(data) > MOST_KEYS else ""
    if shape:
        return f"no key {wanted[0]!r} (the file is {shape.name!r}); it has {keys}"
    return f"no accepted shape: it has {keys}. {accepted()}"


def _hints(data: Mapping[str, Any], wanted: Sequence[str], used: Iterable[str]) -> list[str]:
    """What each key that is not used may have been meant as."""
    pairs = [(key, _meant(key, wanted)) for key in data if key not in set(used)]
    return [f"key {_shown(key)} - did you mean {meant!r}?" for key, meant in pairs if meant]


def _nearest_sets(
    data: Mapping[str, Any], key_sets: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """The sets that a row has most keys of."""
    there = [sum(key in data for key in keys) for keys in key_sets]
    return [keys for keys, n in zip(key_sets, there, strict=True) if n == max(there)]


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


def _shown(key: str) -> str:
    return repr(key if len(key) <= LONGEST_KEY else key[:LONGEST_KEY] + "...")


def accepted() -> str:
    """The accepted shapes in one line."""
    shapes = [f"{{{', '.join(SCHEMAS[name].required)}}}" for name in _names()]
    return "Accepted shapes: " + ", ".join(shapes)


@cache
def _names() -> list[str]:
    """Built-in shapes first, in the order of the table; asked for every row, so kept."""
    built_in = [shape.name for shape in BUILT_IN]
    return built_in + [name for name in SCHEMAS.names() if name not in built_in]
