"""Prompt and completion: `{"prompt": "...", "completion": "..."}`.

Either may be a list of messages instead; a text prompt is the user's turn, a text completion the
assistant's. They become turns of the chat template: nothing is glued together as it stands.
`teacher` and `parents` say who wrote a row and from which rows; they are told apart from a mistyped
label, and not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.data.rows import Content
from nexa.data.schemas.fields import (
    LABEL_SCHEMAS,
    MESSAGES_SCHEMA,
    TEXT_SCHEMA,
    Shape,
    content,
    text,
    turns,
)


def convert(data: Mapping[str, Any]) -> Content:
    """The prompt's turns, then the completion's.

    Raises:
        RowProblem: names the key, or the turn.
    """
    said = []
    for key, role in (("prompt", "user"), ("completion", "assistant")):
        if isinstance(data[key], list):
            said += turns(data[key], key)
        else:
            said.append({"role": role, "content": text(data, key)})
    return content(data, said)


_EITHER = {"anyOf": [TEXT_SCHEMA, MESSAGES_SCHEMA]}
_WRITTEN = {
    "teacher": {"type": ["string", "null"]},
    "parents": {"type": ["array", "null"], "items": {"type": "string"}},
}
COMPLETION = Shape(
    name="completion",
    required=("prompt", "completion"),
    optional=("teacher", "parents"),
    json_schema={
        "type": "object",
        "required": ["prompt", "completion"],
        "properties": {"prompt": _EITHER, "completion": _EITHER, **_WRITTEN, **LABEL_SCHEMAS},
    },
    convert=convert,
)
