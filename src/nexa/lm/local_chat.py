"""A model on this machine as a teacher or a judge: greedy, many requests in one batch.

In float32 each answer is the one that its prompt alone would get, whatever it shares a batch with;
so equal requests have one answer here too. With temperature it would have to be drawn, which the
engines do not do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nexa.core.errors import ModelError, NexaError, TemplateError
from nexa.core.events import Event, emit, listening
from nexa.lm.answers import Generation, require_room
from nexa.lm.chat import ChatTemplate
from nexa.lm.client import Completion, Price, Request, RequestFailed, TooLong
from nexa.lm.local import LLAMA_CPP, Engine, Opened, choose, close_model, generate, open_model
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

BATCH_SIZE = 16
DTYPE = "float32"
# A batch that is not full waits so long for more: the answers of the last one are being written.
GATHER_S = 0.1
FREE = Price(0.0, 0.0, source="runs on this machine")


class _Abandoned(Exception):
    """Nobody waits for the batch any more."""


@dataclass
class _Waiting:
    prompt: list[int]
    max_new_tokens: int
    answer: asyncio.Future[Generation] = field(repr=False)


class LocalChat:
    """A model of this machine."""

    price: Price | None = FREE

    def __init__(
        self,
        files: ModelFiles,
        *,
        name: str,
        dtype: str = DTYPE,
        engine: Engine = "auto",
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.name = name
        self._files, self._dtype, self._engine = files, dtype, engine
        choice = choose(files, dtype=dtype, engine=engine)
        # llama.cpp takes one text at a time.
        self.concurrency = 1 if choice.engine == LLAMA_CPP else batch_size
        self.identity: dict[str, Any] = {
            "provider": "local",
            "digest": files.digest,
            "engine": choice.engine,
            "dtype": dtype,
        }
        self._loaded: Opened | None = None
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._abandoned = False
        self._told_schema = False

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(load_tokenizer(self._files))

    def count_tokens(self, request: Request) -> int:
        """Exactly.

        Raises:
            RequestFailed: the chat template cannot write it.
            ModelError: it asks for answers that are drawn.
        """
        return len(self._prompt(request))

    async def complete(self, request: Request, *, timeout_s: float) -> Completion:
        """Answer in the next batch. There is no time-out: nothing can be lost on the way.

        Raises:
            RequestFailed: the prompt cannot be written, or does not fit into the model.
            ModelError: it asks for answers that are drawn; the model cannot be loaded.
        """
        start = time.perf_counter()
        prompt = self._prompt(request)
        self._require_room(prompt, request)
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(prompt, request.max_new_tokens, answer))
        self._arrived.set()
        if self._runner is None or self._runner.done():
            self._abandoned = False
            self._runner = asyncio.create_task(self._run())
        made: Generation = await answer
        return Completion(
            text=str(self._template.tokenizer.decode(made.ids, skip_special_tokens=True)),
            finish="stop" if made.stopped else "length",
            model=f"{self._files.name} ({self._files.digest[:16]})",
            input_tokens=len(prompt),
            output_tokens=made.new_tokens,
            latency_s=round(time.perf_counter() - start, 3),
            extra=self._extra(request),
        )

    async def close(self) -> None:
        """Let go of a batch under way and of a child process; what is loaded stays."""
        self._abandoned = True
        if self._runner is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        self._runner = None
        self._waiting.clear()
        if self._loaded is not None:
            close_model(self._loaded)

    # -- in ------------------------------------------------------------------------------------

    def _prompt(self, request: Request) -> list[int]:
        if request.temperature > 0:
            raise ModelError(
                f"{self.name} runs on this machine, where answers are the likeliest ones",
                found=f"temperature {request.temperature:g}",
                fix="temperature 0, or a server's address with --base-url",
            )
        try:
            return self._template.prompt([dict(message) for message in request.messages])
        except TemplateError as error:
            raise RequestFailed(error.what, found=error.found, temporary=False) from error

    def _require_room(self, prompt: Sequence[int], request: Request) -> None:
        room = self._files.config.get("max_position_embeddings")
        positions = None if room is None else int(room)
        try:
            require_room(self.name, positions, [prompt], request.max_new_tokens)
        except ModelError as error:
            raise TooLong(error.found or error.what) from error

    def _extra(self, request: Request) -> dict[str, Any]:
        if request.json_schema is None:
            return {}
        if not self._told_schema:
            self._told_schema = True
            emit("note", text=f"{self.name} runs on this machine and is held to no schema")
        return {"without": ["response_format"]}

    # -- batches -------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Answer until nobody waits."""
        while not self._abandoned and await self._gathered():
            limit = self._waiting[0].max_new_tokens
            batch = [one for one in self._waiting if one.max_new_tokens == limit]
            batch = batch[: self.concurrency]
            self._waiting = [one for one in self._waiting if one not in batch]
            try:
                made = await asyncio.to_thread(self._generate, [b.prompt for b in batch], limit)
            except _Abandoned:
                return
            except (NexaError, RuntimeError, MemoryError) as error:
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, generation in zip(batch, made, strict=True):
                if not one.answer.done():
                    one.answer.set_result(generation)

    async def _gathered(self) -> bool:
        """Wait for a full batch, as long as requests keep coming; whether there is any."""
        while len(self._waiting) < self.concurrency:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), GATHER_S)
            except TimeoutError:
                break
        return bool(self._waiting)

    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[Generation]:
        if self._loaded is None:
            self._loaded = open_model(self._files, dtype=self._dtype, engine=self._engine)
        return Context().run(self._quietly, self._loaded, prompts, max_new_tokens)

    def _quietly(
        self, loaded: Opened, prompts: list[list[int]], max_new_tokens: int
    ) -> list[Generation]:
        """One bar for all requests, none for each batch; the engine's reports are where it ends."""
        with listening(self._heed):
            return generate(
                loaded,
                prompts,
                max_new_tokens=max_new_tokens,
                stop_ids=self._template.stop_ids,
                batch_size=self.concurrency,
            )

    def _heed(self, _: Event) -> None:
        if self._abandoned:
            raise _Abandoned
