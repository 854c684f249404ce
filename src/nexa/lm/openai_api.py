"""Models behind OpenAI's chat completions: OpenAI itself, and the many servers that speak alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import openai

from nexa.core.events import emit
from nexa.lm import chat_http
from nexa.lm.chat_http import Place, Refusal
from nexa.lm.client import (
    Completion,
    Price,
    Request,
    estimated_input,
    estimated_tokens,
    request_key,
)

CONCURRENCY = 8
# What a server may refuse to be told, by the names that it may call it: such a request is sent
# again without it, and a note says so.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "response_format": ("response_format", "json_schema", "structured output"),
    "temperature": ("temperature",),
    "seed": ("seed",),
    "max_tokens": ("max_tokens",),
    "max_completion_tokens": ("max_completion_tokens",),
}
LIMITS = ("max_tokens", "max_completion_tokens")


class OpenAIChat:
    """A model of an OpenAI-compatible server."""

    def __init__(
        self,
        name: str,
        model: str,
        place: Place,
        *,
        price: Price | None,
        official: bool = False,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self.name, self.model, self.place, self.price = name, model, place, price
        self.official = official
        self.concurrency = concurrency
        self.identity = {"provider": "openai", "endpoint": place.base_url, "model": model}
        self._client: openai.AsyncOpenAI | None = None
        # OpenAI's newer models know the second name only, older servers the first.
        self._limit = LIMITS[official]
        self._without: list[str] = []

    def count_tokens(self, request: Request) -> int:
        """An estimate: a third of the bytes, rounded up."""
        return estimated_input(request)

    async def complete(self, request: Request, *, timeout_s: float) -> Completion:
        """Ask once.

        Raises:
            RequestFailed: there is no answer.
            AccessError: the key is refused.
            ModelError: the server has no such model.
        """
        async with chat_http.patience(timeout_s):
            while True:
                body = self._body(request)
                start = time.perf_counter()
                try:
                    content = await self._post(body, request, timeout_s)
                except openai.APIStatusError as error:
                    refusal = Refusal.of(error.response)
                    if not self._leaves_out(refusal, body):
                        raise refusal.error(self.place, self.model) from None
                except openai.APIConnectionError as error:
                    raise chat_http.lost(error, self.place) from None
                else:
                    return self._completion(request, content, time.perf_counter() - start)

    async def close(self) -> None:
        """Hang up; a later request connects again."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- out -----------------------------------------------------------------------------------

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in request.messages],
            self._limit: request.max_new_tokens,
            "temperature": request.temperature,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": dict(request.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in body.items() if name not in self._without}

    async def _post(self, body: dict[str, Any], request: Request, timeout_s: float) -> bytes:
        key = request_key(self.identity, request)
        if self._without:  # another body: a server may have kept its refusal of the first
            key += f"-{len(self._without)}"
        raw = await self._connected().chat.completions.with_raw_response.create(
            **body,
            timeout=timeout_s,
            extra_headers={"Idempotency-Key": key},
        )
        content: bytes = raw.http_response.content
        return content

    def _connected(self) -> openai.AsyncOpenAI:
        if self._client is None:
            place = self.place
            client = openai.AsyncOpenAI(
                api_key=place.bearer,
                base_url=place.base_url,
                max_retries=0,
                http_client=chat_http.http_client(place.base_url),
            )
            # What the library takes from the environment besides is meant for OpenAI.
            client.admin_api_key = None
            if not self.official:
                client.organization = client.project = None
            self._client = client
        return self._client

    def _leaves_out(self, refusal: Refusal, body: Mapping[str, Any]) -> bool:
        """Whether the request may be sent again without what the server does not take."""
        # The longer name first: it holds the shorter one.
        for option in sorted(OPTIONS, key=len, reverse=True):
            if option not in body or not any(map(refusal.names, OPTIONS[option])):
                continue
            if option in self._without:  # another request was refused first
                return True
            if option in LIMITS:
                other = LIMITS[option == LIMITS[0]]
                if other in self._without:
                    return False
                self._limit = other
            else:
                text = f"{self.name} is asked without {option}: {self.place.host} refuses it"
                emit("note", text=text)
            self._without.append(option)
            return True
        return False

    # -- back ----------------------------------------------------------------------------------

    def _completion(self, request: Request, content: bytes, latency_s: float) -> Completion:
        told = chat_http.parsed(content, self.place)
        choices = told.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise chat_http.garbled(self.place, "no choices")
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            raise chat_http.garbled(self.place, f"content is a {type(text).__name__}")
        extra = self._extra(request)
        usage = told.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        asked, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(asked, int) or not isinstance(made, int):
            asked, made = estimated_input(request), estimated_tokens(text)
            extra["tokens"] = "estimated"
        refused = message.get("refusal") or choice.get("finish_reason") == "content_filter"
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        return Completion(
            text=text,
            finish="refused" if refused else finish,
            model=str(told.get("model") or self.model),
            input_tokens=asked,
            output_tokens=made,
            latency_s=round(latency_s, 3),
            extra=extra,
        )

    def _extra(self, request: Request) -> dict[str, Any]:
        given = {
            "response_format": request.json_schema is not None,
            "seed": request.seed is not None,
            "temperature": True,
        }
        missing = [name for name in self._without if given.get(name)]
        return {"without": missing} if missing else {}
