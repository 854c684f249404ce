"""Answers from local weights: greedy, many prompts at once, or token by token for a chat.

Two engines answer: the fused decoder, which is faster, and transformers, which knows all models.
`choose` says which and why, by config and dtype alone, so that a base and what was trained from it
always get the same. A third one, llama.cpp, answers for GGUF files, and never without being asked
for by name: `common_engine` does so for models that a user names.

Rows are sorted by length, so that little is padded, and leave the batch when they have ended. In
float32 each answer is the one that its prompt alone would get; in bfloat16 the last bits, and so
now and then a word, hang on the engine and the batch, which is why engine, dtype and batch size
belong to a score's identity.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.events import emit, progress
from nexa.lm.answers import Generation, Pace, require_room
from nexa.lm.decoder.generation import GenerationBatch
from nexa.lm.decoding import DecodingBatch, attending, can_batch
from nexa.lm.fused import AnyModel, FusedModel, load_fused, why_not
from nexa.lm.gguf_run import GgufRun, gguf_of, open_gguf
from nexa.lm.llama_cpp import INSTALL, KV_TYPE, available, runtime_version
from nexa.lm.load import LoadedModel, load
from nexa.lm.resolve import ModelFiles

Engine = Literal["auto", "fused", "transformers", "llama.cpp"]
LLAMA_CPP: Literal["llama.cpp"] = "llama.cpp"

# What answers; each has `tokenizer`, `files` and `positions`.
Opened = AnyModel | GgufRun

# How each engine keeps keys and values, as it is told in a score's identity.
CACHES = {"fused": "contiguous", "transformers": "static", LLAMA_CPP: KV_TYPE}
# Rows leave when so large a share of the batch has ended: leaving copies the keys that stay.
LEAVE_SHARE = 0.25


@dataclass(frozen=True)
class Choice:
    """Which engine answers, and why it was taken."""

    engine: Literal["fused", "transformers", "llama.cpp"]
    reason: str


def choose(files: ModelFiles, *, dtype: str, engine: Engine = "auto") -> Choice:
    """The engine that was asked for; with `auto` the fused one where it can answer.

    Raises:
        ModelError: the fused one or llama.cpp was asked for, and cannot.
        MissingExtra: llama.cpp was asked for, and is not installed.
    """
    if engine == LLAMA_CPP:
        return Choice(LLAMA_CPP, f"it runs {gguf_of(files).name} as it is")
    if engine == "transformers":
        return Choice("transformers", "asked for")
    reason = why_not(files, dtype)
    if not reason:
        return Choice("fused", f"it computes {files.config['model_type']} in {dtype}")
    if engine == "fused":
        raise ModelError(
            f"the fused decoder cannot answer for {files.name}",
            found=reason,
            fix="take the engine transformers, or auto",
        )
    return Choice("transformers", reason)


def common_engine(models: Sequence[ModelFiles], *, dtype: str, engine: Engine = "auto") -> Engine:
    """What answers for models that a user names, so that they can be compared; told in a note.

    With `auto` llama.cpp, if all of them are GGUF files and it is installed; else `auto` itself if
    it comes to the same for all, and transformers if it does not.

    Raises:
        ModelError: the engine that was asked for cannot answer for one of them.
        MissingExtra: llama.cpp was asked for, and is not installed.
    """
    if engine != "auto":
        for files in models:
            choose(files, dtype=dtype, engine=engine)
        return engine
    ggufs = [files.name for files in models if files.gguf is not None]
    if ggufs and not _in_torch(ggufs, len(models)):
        return LLAMA_CPP
    chosen = {choose(files, dtype=dtype).engine for files in models}
    return "auto" if len(chosen) == 1 else "transformers"


def _in_torch(ggufs: Sequence[str], models: int) -> bool:
    """Whether GGUF files are dequantised and answered by torch; what is done is told."""
    named = ", ".join(ggufs)
    if len(ggufs) < models:
        reason = "so that all models are answered alike, and not all are GGUF files"
    elif missing := available():
        reason = f"{missing} ({INSTALL})"
    else:
        emit("note", text=f"{named}: answered by llama.cpp, {runtime_version()}")
        return False
    emit("note", text=f"{named}: dequantised and answered by torch: {reason}")
    return True


def open_model(files: ModelFiles, *, dtype: str = "bfloat16", engine: Engine = "auto") -> Opened:
    """Load a model with the engine that `choose` names; a fallback is told.

    Raises:
        ModelError: a model that cannot be loaded, or that the engine asked for does not compute.
        MissingExtra: llama.cpp was asked for, and is not installed.
    """
    choice = choose(files, dtype=dtype, engine=engine)
    if choice.engine == LLAMA_CPP:
        return open_gguf(files)
    if choice.engine == "fused":
        return load_fused(files, dtype=dtype)
    if engine == "auto":
        emit("note", text=f"{files.name} is answered by transformers: {choice.reason}")
    return load(files, dtype=dtype)


def close_model(loaded: Opened) -> None:
    """Give back what a model holds outside this process; others are let go of by the next one."""
    if isinstance(loaded, GgufRun):
        loaded.close()


def generate(
    loaded: Opened,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    batch_size: int = 64,
) -> list[Generation]:
    """Answer every prompt with the likeliest token at each step; results in the prompts' order.

    The stop token counts among `max_new_tokens`. A model that keeps more than keys and values
    (a recurrent one) is run one row at a time, and a note says so; llama.cpp runs all of them so.

    Raises:
        ModelError: an empty prompt, or one that with its answer outgrows the model's positions.
    """
    _require_room(loaded, prompts, max_new_tokens)
    if isinstance(loaded, GgufRun):
        room = max(map(len, prompts), default=0) + max_new_tokens
        return loaded.server(room).generate(
            prompts, max_new_tokens=max_new_tokens, stop_ids=stop_ids
        )
    # The longest first: a batch that does not fit into memory fails at once, not at the end.
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    answers: dict[int, Generation] = {}
    # Not inference mode: masks and angles that are kept for later would then be refused by
    # autograd in a training that follows in the same process.
    with torch.no_grad(), progress("answering", len(prompts), "rows") as bar:
        pace = Pace(bar, max_new_tokens)
        if isinstance(loaded, FusedModel) or can_batch(loaded.model):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                made = _answer_batch(loaded, [prompts[row] for row in rows], stop_ids, pace)
                answers.update(zip(rows, made, strict=True))
        else:
            emit("note", text=f"{type(loaded.model).__name__} is run one row at a time")
            for row in order:
                answers[row] = _answer_alone(loaded, prompts[row], stop_ids, pace)
    return [answers[row] for row in range(len(prompts))]


def stream(
    loaded: Opened,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
) -> Iterator[int]:
    """The likeliest tokens after one prompt, each as soon as it is known, without the stop token.

    Raises:
        ModelError: an empty prompt, or one that with its answer outgrows the model's positions.
    """
    _require_room(loaded, [prompt_ids], max_new_tokens)
    if isinstance(loaded, GgufRun):
        return loaded.server(len(prompt_ids) + max_new_tokens).stream(
            prompt_ids, max_new_tokens=max_new_tokens, stop_ids=stop_ids
        )
    return _stream(loaded, prompt_ids, max_new_tokens, stop_ids)


def _stream(
    loaded: AnyModel, prompt_ids: Sequence[int], max_new_tokens: int, stop_ids: Collection[int]
) -> Iterator[int]:
    if isinstance(loaded, FusedModel):
        tokens = _fused_tokens(loaded, prompt_ids)
    else:
        tokens = _tokens(loaded, prompt_ids)
    for token in itertools.islice(tokens, max_new_tokens):
        if token in stop_ids:
            return
        yield token


def _fused_tokens(loaded: FusedModel, prompt_ids: Sequence[int]) -> Iterator[int]:
    # Left before each token is handed out: the mode would hold for the caller's code as well.
    with torch.no_grad():
        batch = GenerationBatch(loaded.model, [prompt_ids])
    while True:
        yield int(batch.next_ids)
        with torch.no_grad():
            batch.step()


def _tokens(loaded: LoadedModel, prompt_ids: Sequence[int]) -> Iterator[int]:
    ids = torch.tensor([list(prompt_ids)], device=loaded.model.device)
    state = None
    while True:
        with torch.no_grad():
            made = loaded.model(
                input_ids=ids, past_key_values=state, use_cache=True, logits_to_keep=1
            )
        state = made.past_key_values
        ids = made.logits[:, -1:].max(-1).indices
        yield int(ids)


def _answer_alone(
    loaded: LoadedModel, prompt: Sequence[int], stop_ids: Collection[int], pace: Pace
) -> Generation:
    start = time.perf_counter()
    ids = list(_stream(loaded, prompt, pace.max_new_tokens, stop_ids))
    answer = Generation(ids, len(ids) < pace.max_new_tokens, time.perf_counter() - start)
    pace.ended(answer)
    return answer


class _Batch(Protocol):
    """Rows on their way through an engine: `DecodingBatch` or `GenerationBatch`."""

    next_ids: Tensor

    def step(self) -> None:
        """Append `next_ids` and find the token after it."""

    def keep(self, rows: Sequence[int]) -> None:
        """Take every other row out."""


@contextlib.contextmanager
def _reading(loaded: AnyModel, prompts: Sequence[Sequence[int]], room: int) -> Iterator[_Batch]:
    """The prompts, read by the engine that the model is loaded for."""
    if isinstance(loaded, FusedModel):
        yield GenerationBatch(loaded.model, prompts)
    else:
        with attending(loaded.model):
            yield DecodingBatch(loaded.model, prompts, room=room)


def _answer_batch(
    loaded: AnyModel,
    prompts: Sequence[Sequence[int]],
    stop_ids: Collection[int],
    pace: Pace,
) -> list[Generation]:
    """Answers of one batch, in its order."""
    start = time.perf_counter()
    ids: list[list[int]] = [[] for _ in prompts]
    answers: list[Generation | None] = [None for _ in prompts]
    with _reading(loaded, prompts, pace.max_new_tokens) as batch:
        inside = list(range(len(prompts)))  # which prompt each row of the batch answers
        while True:
            for row, token in zip(inside, batch.next_ids.tolist(), strict=True):
                if answers[row] is not None:
                    continue
                stopped = token in stop_ids
                if not stopped:
                    ids[row].append(token)
                if stopped or len(ids[row]) == pace.max_new_tokens:
                    answer = Generation(ids[row], stopped, time.perf_counter() - start)
                    answers[row] = answer
                    pace.ended(answer)
            running = [i for i, row in enumerate(inside) if answers[row] is None]
            if not running:
                return [answer for answer in answers if answer is not None]
            if len(running) <= (1 - LEAVE_SHARE) * len(inside):
                batch.keep(running)
                inside = [inside[i] for i in running]
            batch.step()
            pace.stepped([ids[row] for row in inside if answers[row] is None])


def _require_room(loaded: Opened, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    loaded.require_current()
    require_room(loaded.files.name, loaded.positions, prompts, max_new_tokens)
