"""One of Nexa's opened models as lm-eval wants a model: likelihoods, and answers up to a stop.

T tokens   V vocabulary   N positions that are looked at
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import torch
from torch import Tensor

from nexa.core.errors import EvalError
from nexa.core.events import emit, progress
from nexa.eval.harness_tasks import answer_length
from nexa.lm.decoder.generation import read
from nexa.lm.documents import Documents
from nexa.lm.folder import read_json
from nexa.lm.fused import FusedModel
from nexa.lm.gguf_run import GgufRun
from nexa.lm.local import Opened, generate, stream

# What may stand beside `until` and a length in a task's `generation_kwargs`: all that a greedy
# answer does not hang on.
HARMLESS = frozenset({"do_sample", "temperature", "top_p", "top_k", "num_return_sequences"})
STOP_TAIL = 16  # characters before the last token's that a stop text may begin in


@dataclass(frozen=True)
class Response:
    """What a model says to one request: a text, or how likely one is."""

    value: Any
    """lm-eval's: `(nats, greedy)` for a likelihood, a number for a rolling one, or a text."""
    new_tokens: int
    stopped: bool
    latency_s: float
    input_tokens: int


@dataclass
class HarnessModel:
    """A model of this machine behind the three questions that lm-eval asks.

    Prompts begin with exactly one beginning-of-text token where the tokenizer adds one, whether a
    template has written it already or not. What is too long is cut at its beginning, and told.
    """

    loaded: Opened
    batch_size: int = 1
    responses: list[Response] = field(default_factory=list)
    """Of the last call, in its order."""
    cut_tokens: int = 0
    """How many tokens of prompts were cut off so far."""

    @property
    def tokenizer_name(self) -> str:
        """Whose template it is: lm-eval keeps prompts under this name."""
        return self.loaded.files.digest

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Nats of each continuation after its context, and whether it is the likeliest text.

        Raises:
            EvalError: a continuation without a token, or longer than the model has positions.
        """
        pairs = [self._pair(*request.args) for request in requests]
        self.responses = []
        with progress("weighing", len(pairs), "texts") as bar:
            for batch in _batches(pairs, self.batch_size):
                start = time.perf_counter()
                found = self._likelihoods(batch)
                each_s = (time.perf_counter() - start) / len(batch)
                self.responses += [
                    Response(value, 0, True, each_s, len(ids))
                    for value, (ids, _) in zip(found, batch, strict=True)
                ]
                bar.advance(len(batch))
        return [response.value for response in self.responses]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Nats of whole texts; a long one in windows, each token predicted once.

        The text stands after one beginning-of-text token, which is not predicted itself. lm-eval's
        own model predicts that token, too, where the tokenizer adds it: there the two differ.
        """
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        self.responses = []
        for request in requests:
            start = time.perf_counter()
            ids = self._encode(request.args[0], special=False)
            windows = get_rolling_token_windows(
                token_list=ids,
                prefix_token=self._prefix_id,
                max_seq_len=self.loaded.positions or len(ids) or 1,
                context_len=1,
            )
            pairs = [
                ([*context, *wanted], len(context))
                for context, wanted in map(make_disjoint_window, windows)
            ]
            nats = sum(
                value
                for batch in _batches(pairs, self.batch_size)
                for value, _ in self._likelihoods(batch)
            )
            took_s = time.perf_counter() - start
            self.responses.append(Response(nats, 0, True, took_s, len(ids)))
        return [response.value for response in self.responses]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The likeliest answer to each context, up to the first of its stop texts.

        Raises:
            EvalError: an answer that is to be drawn, or to be found in another way; no room.
        """
        self.responses = []
        with progress("answering", len(requests), "rows") as bar:
            for batch in _alike(requests, self.batch_size):
                self.responses += self._answers(batch)
                bar.advance(len(batch))
        return [response.value for response in self.responses]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the model's own template.

        Raises:
            EvalError: it has none.
        """
        tokenizer = self.loaded.tokenizer
        if not tokenizer.chat_template:
            raise EvalError(
                f"{self.loaded.files.name} has no chat template",
                fix="leave out --apply-chat-template",
            )
        how: dict[str, Any] = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(tokenizer.apply_chat_template(chat_history, **how))
        except jinja2.exceptions.TemplateError as error:
            turns = [turn for turn in chat_history if turn["role"] != "system"]
            emit("note", text=f"the chat template takes no system message, left out: {error}")
            return str(tokenizer.apply_chat_template(turns, **how))

    def prompt_ids(self, request: Any) -> list[int]:
        """The ids that a request begins with: its context's, or a whole text's."""
        return self._encode(request.args[0])

    # -- tokens ----------------------------------------------------------------------------------

    @property
    def _prefix_id(self) -> int:
        """What stands before a text that nothing stands before."""
        tokenizer = self.loaded.tokenizer
        bos = tokenizer.bos_token_id
        return int(tokenizer.eos_token_id if bos is None else bos)

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text; a beginning-of-text token that it begins with is not put there again.

        Raises:
            EvalError: it begins with two of them.
        """
        tokenizer = self.loaded.tokenizer
        bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
        written = bos is not None and text.startswith(bos)
        ids: list[int] = tokenizer(text, add_special_tokens=special and not written, verbose=False)[
            "input_ids"
        ]
        if bos_id is not None and ids[:2] == [bos_id, bos_id]:
            raise EvalError(
                "a prompt begins with 2 beginning-of-text tokens, not 1",
                found=repr(text[:60]),
                fix="mend bos_token in the chat template",
            )
        return ids

    def _pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Ids of a context with its continuation, and where that begins.

        The two are written as one text, so that tokens are those which the whole has; blanks at
        the context's end belong to the continuation's first token.
        """
        if not context:
            ids = self._encode(continuation, special=False)
            prefix = [] if ids[:1] == [self._prefix_id] else [self._prefix_id]
            return self._checked([*prefix, *ids], 1, continuation)
        before = context.rstrip()
        whole = self._encode(context + continuation)
        return self._checked(whole, len(self._encode(before)), continuation)

    def _checked(self, ids: list[int], start: int, continuation: str) -> tuple[list[int], int]:
        """What fits: one token more than the positions, the last one is only predicted."""
        room, wanted = self.loaded.positions, len(ids) - start
        if wanted < 1 or start < 1 or (room is not None and wanted > room):
            raise EvalError(
                f"a continuation of {wanted} tokens cannot be weighed",
                found=repr(continuation[:60]),
                fix=None if room is None else f"from 1 to {room} tokens",
            )
        kept = ids if room is None else ids[-(room + 1) :]
        self._tell_cut(len(ids) - len(kept))
        return kept, start - (len(ids) - len(kept))

    def _tell_cut(self, tokens: int) -> None:
        if tokens > 0:
            if not self.cut_tokens:
                name, room = self.loaded.files.name, self.loaded.positions
                emit(
                    "note",
                    text=f"a prompt does not fit into {name} ({room} tokens): it is cut at its "
                    f"beginning, by {tokens} tokens; so are others that are too long",
                )
            self.cut_tokens += tokens

    # -- likelihoods -----------------------------------------------------------------------------

    def _likelihoods(self, pairs: Sequence[tuple[list[int], int]]) -> list[tuple[float, bool]]:
        """Nats and greediness of `ids[start:]` after `ids[:start]`, for each pair."""
        loaded = self.loaded
        if isinstance(loaded, GgufRun):
            return [_told_by(loaded, ids, start) for ids, start in pairs]
        loaded.require_current()
        with torch.no_grad():
            if isinstance(loaded, FusedModel):
                return list(_fused(loaded, pairs))
            return [self._generic(ids, start) for ids, start in pairs]

    def _generic(self, ids: Sequence[int], start: int) -> tuple[float, bool]:
        """By transformers, one text at a time."""
        model: Any = self.loaded.model if not isinstance(self.loaded, GgufRun) else None
        made = model(
            input_ids=torch.tensor([list(ids[:-1])], device=model.device),
            use_cache=False,
            logits_to_keep=len(ids) - start,
        )
        return _weighed(made.logits[0], ids[start:])

    # -- answers ---------------------------------------------------------------------------------

    def _answers(self, requests: Sequence[Any]) -> list[Response]:
        """Answers to requests that are asked in the same way."""
        kwargs: dict[str, Any] = requests[0].args[1]
        stops, most = _stops_of(kwargs, self._eos), answer_length(kwargs)
        prompts = [self._prompt(request.args[0], most) for request in requests]
        if self.batch_size == 1:
            return [self._streamed(prompt, most, stops) for prompt in prompts]
        made = generate(
            self.loaded,
            prompts,
            max_new_tokens=most,
            stop_ids=self._stop_ids,
            batch_size=self.batch_size,
        )
        responses = []
        for prompt, answer in zip(prompts, made, strict=True):
            whole = self._text(answer.ids)
            text = _cut_at(whole, stops)
            stopped = answer.stopped or text != whole
            responses.append(
                Response(text, answer.new_tokens, stopped, answer.latency_s, len(prompt))
            )
        return responses

    def _streamed(self, prompt: list[int], most: int, stops: Sequence[str]) -> Response:
        """One answer, token by token: it ends as soon as a stop text is there."""
        start = time.perf_counter()
        ids: list[int] = []
        longest = max(map(len, stops), default=0) + STOP_TAIL
        for token in stream(self.loaded, prompt, max_new_tokens=most, stop_ids=self._stop_ids):
            ids.append(token)
            if any(stop in self._text(ids[-longest:]) for stop in stops):
                break
        text = _cut_at(self._text(ids), stops)
        took_s = time.perf_counter() - start
        return Response(
            text, len(ids), len(ids) < most or text != self._text(ids), took_s, len(prompt)
        )

    def _prompt(self, context: str, most: int) -> list[int]:
        room, ids = self.loaded.positions, self._encode(context)
        if room is None or len(ids) + most <= room:
            return ids
        if most >= room:
            raise EvalError(
                f"an answer of {most} tokens leaves a prompt no room",
                found=f"{self.loaded.files.name} has room for {room}",
            )
        self._tell_cut(len(ids) + most - room)
        return ids[most - room :]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.loaded.tokenizer.decode(list(ids), skip_special_tokens=True))

    @property
    def _eos(self) -> str | None:
        return self.loaded.tokenizer.eos_token or None

    @property
    def _stop_ids(self) -> Collection[int]:
        """The tokenizer's end-of-text token, and those of the model's own settings."""
        eos = self.loaded.tokenizer.eos_token_id
        told = [] if eos is None else [eos]
        for name in ("config.json", "generation_config.json"):
            files = self.loaded.files
            own = (
                read_json(files.folder / name).get("eos_token_id") if name in files.files else None
            )
            told += own if isinstance(own, list) else [own]
        return {int(token) for token in told if token is not None}


def as_lm(model: HarnessModel) -> Any:
    """The model as an `lm_eval.api.model.LM`, for lm-eval's own `simple_evaluate`."""
    from lm_eval.api.model import LM

    class NexaLM(LM):  # type: ignore[misc]  # lm-eval ships no types
        """Nexa's model."""

        tokenizer_name = model.tokenizer_name

        def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            return model.loglikelihood(requests)

        def loglikelihood_rolling(self, requests: Any, **_: Any) -> list[float]:
            return model.loglikelihood_rolling(requests)

        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            return model.generate_until(requests)

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return model.apply_chat_template(chat_history, add_generation_prompt)

    return NexaLM()


def _fused(
    loaded: FusedModel, pairs: Sequence[tuple[list[int], int]]
) -> Iterator[tuple[float, bool]]:
    """By the fused decoder, all texts in one pass; the head only where it is looked at."""
    texts = [ids[:-1] for ids, _ in pairs]
    wanted_N: list[int] = []
    offset = 0
    for (_, start), text in zip(pairs, texts, strict=True):
        wanted_N += range(offset + start - 1, offset + len(text))
        offset += len(text)
    documents = Documents(tuple(map(len, texts)))
    hidden_ND = read(loaded.model, texts, documents, wanted=torch.tensor(wanted_N))
    at = 0
    for ids, start in pairs:
        count = len(ids) - start
        yield _weighed(loaded.model.logits(hidden_ND[at : at + count]), ids[start:])
        at += count


def _weighed(logits_NV: Tensor, wanted: Sequence[int]) -> tuple[float, bool]:
    """Nats of the wanted tokens, and whether each is the likeliest at its place."""
    wanted_N = torch.tensor(list(wanted), device=logits_NV.device)
    log_probs_NV = logits_NV.float().log_softmax(-1)
    nats_N = log_probs_NV.gather(1, wanted_N[:, None])[:, 0]
    return float(nats_N.double().sum()), bool((log_probs_NV.argmax(-1) == wanted_N).all())


def _told_by(loaded: GgufRun, ids: Sequence[int], start: int) -> tuple[float, bool]:
    """By llama.cpp: its own probabilities, and the text that it would have written."""
    server = loaded.server(len(ids) + 1)
    nats = sum(server.token_log_probs(ids, start=start))
    wanted = list(ids[start:])
    [made] = server.generate([ids[:start]], max_new_tokens=len(wanted), stop_ids=())
    return float(nats), made.ids == wanted


def _stops_of(kwargs: dict[str, Any], eos: str | None) -> list[str]:
    """The texts that end an answer, the end-of-text token's own among them.

    Raises:
        EvalError: the task wants answers that are not the likeliest ones.
    """
    drawn = kwargs.get("do_sample") or float(kwargs.get("temperature") or 0) > 0
    known = HARMLESS | {"until", "max_gen_toks", "max_new_tokens", "max_tokens"}
    odd = sorted(set(kwargs) - known - {"max_completion_tokens"})
    if drawn or odd:
        raise EvalError(
            "the task wants answers that are not simply the likeliest ones",
            found=", ".join(odd) or "do_sample, or a temperature above 0",
            fix="a task with do_sample: false",
        )
    until = kwargs.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    return [stop for stop in dict.fromkeys([*stops, *([eos] if eos else [])]) if stop]


def _cut_at(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _alike(requests: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Batches in order, each of requests that are asked in the same way."""
    batch: list[Any] = []
    for request in requests:
        if batch and (len(batch) == size or request.args[1] != batch[0].args[1]):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch
