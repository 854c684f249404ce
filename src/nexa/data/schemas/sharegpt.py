"""ShareGPT: `{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", ...}]}`.

A turn may be written `role` and `content` instead. `system` beside the conversation is its first
turn. The names that tools have for the speakers are all known; see the table of roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexa.core.errors import nearest
from nexa.core.values import kind
from nexa.data.rows import Content
from nexa.data.schemas.fields import (
    LABEL_SCHEMAS,
    RowProblem,
    Shape,
    content,
    optional_text,
    said,
)

ROLE_NAMES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def convert(data: Mapping[str, Any]) -> Content:
    """The conversation, with roles in the names that chat templates know.

    Raises:
        RowProblem: names the turn.
    """
    conversation = data["conversations"]
    if not isinstance(conversation, list):
        found = kind(conversation)
        raise RowProblem(f"'conversations' is {found}, not a list of turns", "conversations")
    turns = [_turn(item, f"conversations[{i}]") for i, item in enumerate(conversation)]
    if not turns:
        raise RowProblem("'conversations' has no turns", "conversations")
    if system := optional_text(data, "system"):
        turns.insert(0, {"role": "system", "content": system})
    return content(data, turns)


def _turn(turn: Any, place: str) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise RowProblem(f"{place} is {kind(turn)}, not a turn", place)
    speaker, words = ("role", "content") if "role" in turn else ("from", "value")
    for key in (speaker, words):
        if key not in turn:
            near = nearest(key, [str(name) for name in turn])
            meant = f": key {near!r} - did you mean {key!r}?" if near else ""
            raise RowProblem(f"{place} has no {key!r}{meant}", place)
    name = turn[speaker]
    role = ROLE_NAMES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        known = ", ".join(ROLE_NAMES)
        who = f"{_shown(name)}, whom nobody knows; known: {known}"
        raise RowProblem(f"{place} is from {who}", f"{place}.{speaker}")
    if turn.get("weight") == 0:
        raise RowProblem(f"{place} has weight 0: every assistant turn is trained", place)
    return {"role": role, "content": said(turn[words], place)}


def _shown(name: Any) -> str:
    return repr(name[:40]) if isinstance(name, str) else kind(name)


_TURNS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "anyOf": [{"required": ["from", "value"]}, {"required": ["role", "content"]}],
    },
}
SHAREGPT = Shape(
    name="sharegpt",
    required=("conversations",),
    optional=("system",),
    json_schema={
        "type": "object",
        "required": ["conversations"],
        "properties": {
            "conversations": _TURNS,
            "system": {"type": ["string", "null"]},
            **LABEL_SCHEMAS,
        },
    },
    convert=convert,
)
