"""Prompt and completion: `{"prompt": "...", "completion": "..."}`.

Either may be a list of messages instead; a text prompt is the user's turn, a text completion the
assistant's. They become turns of the chat template: nothing is glued together as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.data.rows import Content
from nexa.data.schemas.fields import LABEL_SCHEMAS, MESSAGES_SCHEMA, Shape, content, text, turns


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


_EITHER = {"anyOf": [{"type": "string", "minLength": 1}, MESSAGES_SCHEMA]}
COMPLETION = Shape(
    name="completion",
    required=("prompt", "completion"),
    optional=(),
    json_schema={
        "type": "object",
        "required": ["prompt", "completion"],
        "properties": {"prompt": _EITHER, "completion": _EITHER, **LABEL_SCHEMAS},
    },
    convert=convert,
)
