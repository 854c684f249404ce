"""What the scripted endpoint puts on the wire: OpenAI's and Anthropic's answers and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ANTHROPIC = "/v1/messages"
FINISHES = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def completion(
    path: str, body: Mapping[str, Any], entry: Mapping[str, Any], *, usage: bool, empty: bool
) -> bytes:
    """An answer as the API of that path gives it."""
    made = _anthropic(body, entry, empty) if path == ANTHROPIC else _openai(body, entry, empty)
    if not usage:
        del made["usage"]
    return json.dumps(made).encode()


def refusal(path: str, status: int, code: str, message: str) -> bytes:
    """An error as the API of that path gives it."""
    if path == ANTHROPIC:
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kinds |= {400: "invalid_request_error", 529: "overloaded_error"}
        told: dict[str, Any] = {"type": kinds.get(status, "api_error"), "message": message}
        return json.dumps({"type": "error", "error": told}).encode()
    told = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json.dumps({"error": told}).encode()


def _openai(body: Mapping[str, Any], entry: Mapping[str, Any], empty: bool) -> dict[str, Any]:
    told, made = entry["input_tokens"], entry["output_tokens"]
    refused = entry["finish"] == "refusal"
    message = {
        "role": "assistant",
        "content": None if refused else entry["answer"],
        "refusal": entry["answer"] if refused else None,
    }
    finish = "stop" if refused else entry["finish"]
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{entry['key'][:12]}",
        "object": "chat.completion",
        "created": 0,
        "model": f"{body.get('model')}-scripted",
        "choices": [] if empty else [choice],
        "usage": {"prompt_tokens": told, "completion_tokens": made, "total_tokens": told + made},
    }


def _anthropic(body: Mapping[str, Any], entry: Mapping[str, Any], empty: bool) -> dict[str, Any]:
    return {
        "id": f"msg_{entry['key'][:12]}",
        "type": "message",
        "role": "assistant",
        "model": f"{body.get('model')}-scripted",
        "content": [] if empty else [{"type": "text", "text": entry["answer"]}],
        "stop_reason": FINISHES.get(entry["finish"], entry["finish"]),
        "stop_sequence": None,
        "usage": {
            "input_tokens": entry["input_tokens"],
            "output_tokens": entry["output_tokens"],
        },
    }
