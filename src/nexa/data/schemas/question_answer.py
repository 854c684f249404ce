"""Question and answer: `{"question": "...", "answer": "..."}`, or `query` and `response`.

`context` stands before the question, with a blank line between; `system` (or `system_prompt`) is
the system's turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.data.rows import Content
from nexa.data.schemas.fields import LABEL_SCHEMAS, TEXT_SCHEMA, Shape, content, optional_text, text

_MAYBE = {"type": ["string", "null"]}


def convert(data: Mapping[str, Any]) -> Content:
    """One question and one answer.

    Raises:
        RowProblem: names the key.
    """
    question, answer = QUESTION_ANSWER.fits(data) or QUESTION_ANSWER.required
    asked, context = text(data, question), optional_text(data, "context")
    turns = [
        {"role": "user", "content": f"{context}\n\n{asked}" if context else asked},
        {"role": "assistant", "content": text(data, answer)},
    ]
    if system := optional_text(data, "system") or optional_text(data, "system_prompt"):
        turns.insert(0, {"role": "system", "content": system})
    return content(data, turns)


QUESTION_ANSWER = Shape(
    name="question-answer",
    required=("question", "answer"),
    also=(("query", "response"), ("question", "response"), ("query", "answer")),
    optional=("context", "system", "system_prompt"),
    json_schema={
        "type": "object",
        "allOf": [
            {"anyOf": [{"required": ["question"]}, {"required": ["query"]}]},
            {"anyOf": [{"required": ["answer"]}, {"required": ["response"]}]},
        ],
        "properties": {
            "question": TEXT_SCHEMA,
            "query": TEXT_SCHEMA,
            "answer": TEXT_SCHEMA,
            "response": TEXT_SCHEMA,
            "context": _MAYBE,
            "system": _MAYBE,
            "system_prompt": _MAYBE,
            **LABEL_SCHEMAS,
        },
    },
    convert=convert,
)
