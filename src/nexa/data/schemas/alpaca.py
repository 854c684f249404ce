"""Alpaca: `{"instruction": "...", "input": "...", "output": "..."}`.

The user's turn is the instruction, a blank line and the input (the instruction alone without
one). `system` is the system's turn; `history` has earlier questions and answers as pairs, and all
its answers are trained, too. Dolly's `context` and `response` are taken for input and output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.core.values import kind
from nexa.data.rows import Content
from nexa.data.schemas.fields import (
    LABEL_SCHEMAS,
    TEXT_SCHEMA,
    RowProblem,
    Shape,
    content,
    optional_text,
    text,
)


def convert(data: Mapping[str, Any]) -> Content:
    """System, history, question and answer.

    Raises:
        RowProblem: names the key.
    """
    turns = []
    if system := optional_text(data, "system"):
        turns.append({"role": "system", "content": system})
    turns += _history(data.get("history") or [])
    given = optional_text(data, "input") or optional_text(data, "context")
    asked = text(data, "instruction")
    turns.append({"role": "user", "content": f"{asked}\n\n{given}" if given else asked})
    answer = "output" if "output" in data else "response"
    turns.append({"role": "assistant", "content": text(data, answer)})
    return content(data, turns)


def _history(pairs: Any) -> list[dict[str, str]]:
    if not isinstance(pairs, list):
        raise RowProblem(f"'history' is {kind(pairs)}, not a list of pairs", "history")
    turns = []
    for number, pair in enumerate(pairs):
        whole = isinstance(pair, list) and [type(item) for item in pair] == [str, str]
        if not whole:
            place = f"history[{number}]"
            raise RowProblem(f"{place} is not a question and an answer", place)
        turns.append({"role": "user", "content": pair[0]})
        turns.append({"role": "assistant", "content": pair[1]})
    return turns


_MAYBE = {"type": ["string", "null"]}
ALPACA = Shape(
    name="alpaca",
    required=("instruction", "output"),
    also=(("instruction", "response"),),
    optional=("input", "context", "system", "history"),
    json_schema={
        "type": "object",
        "required": ["instruction"],
        "anyOf": [{"required": ["output"]}, {"required": ["response"]}],
        "properties": {
            "instruction": TEXT_SCHEMA,
            "input": _MAYBE,
            "context": _MAYBE,
            "output": TEXT_SCHEMA,
            "response": TEXT_SCHEMA,
            "system": _MAYBE,
            "history": {
                "type": ["array", "null"],
                "items": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
            **LABEL_SCHEMAS,
        },
    },
    convert=convert,
)
