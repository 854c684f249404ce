"""What llama.cpp itself makes of a GGUF file: token ids, and the likeliest next tokens.

It runs in a process of its own and is asked from a thread, while this one compares tensors.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.hardware import usable_cores
from nexa.lm.llama_cpp import Child, LlamaCpp, available, runtime_version
from nexa.weights.checks import Check
from nexa.weights.probes import NASTY, nasty_ids
from nexa.weights.text_checks import ids_check

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = 2
# llama.cpp tells a distribution as text: half a second for one of 49,152 tokens, in both processes.
LIKELIEST = 1000
# The sum that llama.cpp divides by is one of float32, in order: off by 2e-4 at 49,152.
SUM_ERROR = 5e-4


@dataclass(frozen=True)
class Told:
    """What llama.cpp answered: the ids of every text of NASTY, what follows the first texts.

    `tops` are the likeliest tokens after a text and their log-probabilities, `[LIKELIEST]` each.
    """

    ids: list[list[int]]
    tops: list[tuple[Tensor, Tensor]]


def begun() -> AbstractContextManager[Child | None]:
    """llama.cpp's process for the length of a block; None where it is not installed."""
    return nullcontext() if available() else Child()


@contextmanager
def asking(
    gguf: Path, texts: Sequence[Sequence[int]], *, wanted: bool = True, child: Child | None = None
) -> Iterator[Future[Told] | None]:
    """Ask llama.cpp for the length of a block; None where it is not installed or not wanted."""
    if not wanted or available():
        yield None
        return
    with ThreadPoolExecutor(1, thread_name_prefix="llama.cpp") as pool:
        yield pool.submit(_ask, gguf, texts, child)


def runtime_fact(*, wanted: bool = True) -> str:
    """Which runtime is asked, as parity.json says it."""
    if not wanted:
        return "not asked"
    return "not installed" if available() else runtime_version()


def runtime_checks(
    asked: Future[Told] | None,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    logits_TV: Tensor | None,
    *,
    kl_limit_nats: float,
) -> Iterator[Check]:
    """llama.cpp's token ids against the folder's, its logits against those of the same weights.

    `logits_TV` are what the dequantised weights give for all texts, end to end; None where they
    could not be computed. The divergence is over LIKELIEST tokens and all others taken as one: by
    the data-processing inequality never more than that over the whole vocabulary.
    """
    if asked is None:
        return
    try:
        told = asked.result()
    except ModelError as error:
        yield Check("runtime_loads", False, error.found or error.what, "yes")
        return
    yield Check("runtime_loads", True, "yes", "yes")
    yield ids_check("runtime_token_ids", _changed(told.ids, tokenizer))
    if logits_TV is not None:
        kl = _divergence(told.tops, texts, logits_TV)
        yield Check("runtime_kl_nats", kl <= kl_limit_nats, kl, kl_limit_nats)


def _ask(gguf: Path, texts: Sequence[Sequence[int]], child: Child | None = None) -> Told:
    # Half of the cores: with all of them, its threads and torch's wait for each other by spinning,
    # and both take three times as long.
    threads, positions = max(1, usable_cores() // 2), max(map(len, texts)) + 1
    with LlamaCpp.open(gguf, positions=positions, threads=threads, child=child) as runtime:
        tops = [runtime.top_log_probs(ids, LIKELIEST) for ids in texts[:TEXTS]]
        return Told([runtime.tokenize(text) for text in NASTY], tops)


def _changed(ids: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    backend: Any = tokenizer
    composes = "NFC" in str(backend.backend_tokenizer.normalizer)
    for text, got, wanted in zip(NASTY, ids, nasty_ids(tokenizer), strict=True):
        # llama.cpp composes no characters: a text that is composed already tells.
        told_otherwise = composes and unicodedata.normalize("NFC", text) != text
        if got != wanted and not told_otherwise:
            yield text


def _divergence(
    tops: Sequence[tuple[Tensor, Tensor]], texts: Sequence[Sequence[int]], logits_TV: Tensor
) -> float:
    """Mean KL(torch || llama.cpp) after the first texts, in nats, over the tokens that it told."""
    ends = (torch.tensor([len(ids) for ids in texts]).cumsum(0) - 1).tolist()
    found = [
        _divergence_of(tokens, told, logits_TV[end].double())
        for (tokens, told), end in zip(tops, ends, strict=False)
    ]
    return sum(found) / len(found)


def _divergence_of(tokens_K: Tensor, told_K: Tensor, logits_V: Tensor) -> float:
    """KL over the tokens that were told and one more: any other token.

    What llama.cpp gives to all others is 1 less what it told, which is off by SUM_ERROR: of what it
    may be, the nearest to what it should be is taken.
    """
    known = tokens_K < len(logits_V)
    tokens_K, told_K = tokens_K[known], told_K[known].double()
    wanted_V = logits_V.log_softmax(-1)
    others = torch.ones_like(wanted_V).index_fill(0, tokens_K, 0)
    wanted_rest = (wanted_V.exp() * others).sum()
    told_rest = 1 - told_K.exp().sum()
    told_rest = wanted_rest.clamp(told_rest - SUM_ERROR, told_rest + SUM_ERROR).clamp(0, 1)
    wanted = torch.cat([wanted_V[tokens_K].exp(), wanted_rest[None]])
    told = torch.cat([told_K.softmax(-1) * (1 - told_rest), told_rest[None]])
    return float((torch.xlogy(wanted, wanted) - torch.xlogy(wanted, told)).sum())
