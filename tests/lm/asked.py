"""Requests for tests, and one way to ask a model once."""

from __future__ import annotations

import asyncio
from typing import Any

from nexa.core.secrets import Secret
from nexa.lm.chat_http import Place
from nexa.lm.client import ChatModel, Completion, Request

KEY = "key-of-the-tests-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def request(text: str = "hello", **more: Any) -> Request:
    """A request of one message; its id is the text."""
    fields = {"id": text, "messages": ({"role": "user", "content": text},), "max_new_tokens": 50}
    return Request(**{**fields, **more})


def place(url: str, variable: str = "OPENAI_API_KEY", *, key: str = KEY) -> Place:
    """Where to ask; without a key if it is empty."""
    return Place(url, variable, Secret(key, f"the environment ({variable})") if key else None)


def complete(model: ChatModel, *requests: Request, timeout_s: float = 30.0) -> list[Completion]:
    """Ask all of them at once, hang up, and hand the answers back."""

    async def story() -> list[Completion]:
        try:
            asked = (model.complete(one, timeout_s=timeout_s) for one in requests)
            return list(await asyncio.gather(*asked))
        finally:
            await model.close()

    return asyncio.run(story())
