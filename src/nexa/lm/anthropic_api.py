"""Models behind Anthropic's messages API."""

from __future__ import annotations

import time
from typing import Any

import anthropic

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
FINISHES = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refused",
}
SCHEMA_NAMES = ("output_config", "json_schema", "structured output")


class AnthropicChat:
    """A model of Anthropic's. Its API has no temperature and no seed (version 2026-10-21)."""

    def __init__(
        self,
        name: str,
        model: str,
        place: Place,
        *,
        price: Price | None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self.name, self.model, self.place, self.price = name, model, place, price
        self.concurrency = concurrency
        self.identity = {"provider": "anthropic", "endpoint": place.base_url, "model": model}
        self._client: anthropic.AsyncAnthropic | None = None
        self._holds_schemas = True
        self._told = False

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
        self._tell_sampling()
        async with chat_http.patience(timeout_s):
            while True:
                start = time.perf_counter()
                with_schema = request.json_schema is not None and self._holds_schemas
                try:
                    content = await self._post(request, timeout_s, with_schema=with_schema)
                except anthropic.APIStatusError as error:
                    refusal = Refusal.of(error.response)
                    if not self._leaves_out(refusal, with_schema=with_schema):
                        raise refusal.error(self.place, self.model) from None
                except anthropic.APIConnectionError as error:
                    raise chat_http.lost(error, self.place) from None
                else:
                    return self._completion(request, content, time.perf_counter() - start)

    async def close(self) -> None:
        """Hang up; a later request connects again."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- out -----------------------------------------------------------------------------------

    async def _post(self, request: Request, timeout_s: float, *, with_schema: bool) -> bytes:
        system = [m["content"] for m in request.messages if m["role"] == "system"]
        turns: Any = [dict(m) for m in request.messages if m["role"] != "system"]
        body: dict[str, Any] = {"system": "\n\n".join(system)} if system else {}
        key = request_key(self.identity, request)
        if request.json_schema is not None and not with_schema:
            key += "-1"  # another body: a server may have kept its refusal of the first
        if with_schema and request.json_schema is not None:
            schema = {"type": "json_schema", "schema": dict(request.json_schema)}
            body["output_config"] = {"format": schema}
        raw = await self._connected().messages.with_raw_response.create(
            model=self.model,
            messages=turns,
            max_tokens=request.max_new_tokens,
            timeout=timeout_s,
            extra_headers={"Idempotency-Key": key},
            **body,
        )
        content: bytes = raw.http_response.content
        return content

    def _connected(self) -> anthropic.AsyncAnthropic:
        if self._client is None:
            place = self.place
            self._client = anthropic.AsyncAnthropic(
                api_key=place.bearer,
                base_url=place.base_url,
                max_retries=0,
                http_client=chat_http.http_client(place.base_url),
                open_telemetry=False,
            )
        return self._client

    def _tell_sampling(self) -> None:
        if not self._told:
            self._told = True
            text = f"{self.name} is asked without temperature and seed: its API has none"
            emit("note", text=text)

    def _leaves_out(self, refusal: Refusal, *, with_schema: bool) -> bool:
        """Whether the request may be sent again without a schema, which the model does not take."""
        if not with_schema or not any(map(refusal.names, SCHEMA_NAMES)):
            return False
        if self._holds_schemas:  # no other request was refused first
            self._holds_schemas = False
            text = f"{self.name} is asked without a schema: {self.place.host} refuses it"
            emit("note", text=text)
        return True

    # -- back ----------------------------------------------------------------------------------

    def _completion(self, request: Request, content: bytes, latency_s: float) -> Completion:
        told = chat_http.parsed(content, self.place)
        blocks = told.get("content")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise chat_http.garbled(self.place, "no content")
        finish = FINISHES.get(str(told.get("stop_reason")), "stop")
        if not blocks and finish == "stop":
            raise chat_http.garbled(self.place, "empty content")
        text = "".join(
            str(block.get("text", "")) for block in blocks if block.get("type") == "text"
        )
        without = ["temperature"] + ["seed"] * (request.seed is not None)
        if request.json_schema is not None and not self._holds_schemas:
            without.append("output_config")
        extra: dict[str, Any] = {"without": without}
        usage = told.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        asked, made = usage.get("input_tokens"), usage.get("output_tokens")
        if not isinstance(asked, int) or not isinstance(made, int):
            asked, made = estimated_input(request), estimated_tokens(text)
            extra["tokens"] = "estimated"
        return Completion(
            text=text,
            finish=finish,
            model=str(told.get("model") or self.model),
            input_tokens=asked,
            output_tokens=made,
            latency_s=round(latency_s, 3),
            extra=extra,
        )
