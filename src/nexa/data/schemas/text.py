"""Plain text: `{"text": "..."}`. No conversation: every token is trained, and then the end.

Text that is written in a chat format already is taken as it stands, special tokens and all. A
held-out text is asked by its beginning; see `nexa.lm.plain_text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.data.rows import Content
from nexa.data.schemas.fields import LABEL_SCHEMAS, TEXT_SCHEMA, Shape, labelled, text
from nexa.lm.plain_text import as_messages


def convert(data: Mapping[str, Any]) -> Content:
    """The text as it stands.

    Raises:
        RowProblem: it is blank, or no text.
    """
    return labelled(data, as_messages(text(data, "text")))


TEXT = Shape(
    name="text",
    required=("text",),
    optional=(),
    json_schema={
        "type": "object",
        "required": ["text"],
        "properties": {"text": TEXT_SCHEMA, **LABEL_SCHEMAS},
    },
    convert=convert,
)
