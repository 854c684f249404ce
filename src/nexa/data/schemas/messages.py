"""OpenAI messages: `{"messages": [{"role": "user", "content": "..."}, ...]}`.

Roles are system, developer, user, assistant and tool; the last turn is the assistant's. Content
is a text or a list of text parts. Turns that call tools and turns of weight 0 are refused, for
they would be trained otherwise than they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.data.rows import Content
from nexa.data.schemas.fields import LABEL_SCHEMAS, MESSAGES_SCHEMA, Shape, content, turns


def convert(data: Mapping[str, Any]) -> Content:
    """The conversation as it stands.

    Raises:
        RowProblem: names the turn.
    """
    return content(data, turns(data["messages"], "messages"))


MESSAGES = Shape(
    name="messages",
    required=("messages",),
    optional=(),
    json_schema={
        "type": "object",
        "required": ["messages"],
        "properties": {"messages": MESSAGES_SCHEMA, **LABEL_SCHEMAS},
    },
    convert=convert,
)
