"""The lab's own shape: `{"context", "prompt", "target_answer", "domain", "source", ...}`.

The user's turn is the context, a blank line and the prompt (the prompt alone without a context).
The answer is `target_answer`: a text as it stands, an object or a list as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexa.core.values import kind
from nexa.data.rows import Content
from nexa.data.schemas.fields import LABEL_SCHEMAS, TEXT_SCHEMA, RowProblem, Shape, content, text


def convert(data: Mapping[str, Any]) -> Content:
    """One question and one answer.

    Raises:
        RowProblem: names the key.
    """
    context = data.get("context")
    if context is not None and not isinstance(context, str):
        raise RowProblem(f"'context' is {kind(context)}, not a text", "context")
    prompt = text(data, "prompt")
    asked = f"{context}\n\n{prompt}" if context and context.strip() else prompt
    return content(
        data,
        [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": _answer(data["target_answer"])},
        ],
    )


def _answer(target: Any) -> str:
    """The text that is learned; keys keep their order, letters stay readable."""
    if target is None or target in ({}, []):
        empty = "null" if target is None else "empty"
        raise RowProblem(f"'target_answer' is {empty}", "target_answer")
    return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)


RECORD = Shape(
    name="record",
    required=("prompt", "target_answer"),
    optional=("context",),
    json_schema={
        "type": "object",
        "required": ["prompt", "target_answer"],
        "properties": {
            "context": {"type": ["string", "null"]},
            "prompt": TEXT_SCHEMA,
            "target_answer": {"type": ["string", "object", "array", "number", "boolean"]},
            **LABEL_SCHEMAS,
        },
    },
    convert=convert,
)
