"""What llama.cpp itself makes of a GGUF file: token ids, and the likeliest next tokens.

It runs in a process of its own and is asked from a thread, while this one compares tensors.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.hardware import usable_cores
from nexa.lm.llama_cpp import LlamaCpp, available, runtime_version
from nexa.weights.checks import Check
from nexa.weights.probes import NASTY, nasty_ids
from nexa.weights.text_checks import ids_check

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# llama.cpp tells a distribution as text, a fifth of a second for one of 49,152 tokens.
TEXTS = 2


@dataclass(frozen=True)
class Told:
    """What llama.cpp answered: the ids of every text of NASTY, what follows the first texts."""

    ids: list[list[int]]
    log_probs_V: list[Tensor]


@contextmanager
def asking(
    gguf: Path, texts: Sequence[Sequence[int]], *, wanted: bool = True
) -> Iterator[Future[Told] | None]:
    """Ask llama.cpp for the length of a block; None where it is not installed or not wanted."""
    if not wanted or available():
        yield None
        return
    with ThreadPoolExecutor(1, thread_name_prefix="llama.cpp") as pool:
        yield pool.submit(_ask, gguf, texts)


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
    could not be computed.
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
        kl = _divergence(told.log_probs_V, texts, logits_TV)
        yield Check("runtime_kl_nats", kl <= kl_limit_nats, kl, kl_limit_nats)


def _ask(gguf: Path, texts: Sequence[Sequence[int]]) -> Told:
    # Half of the cores: with all of them, its threads and torch's wait for each other by spinning,
    # and both take three times as long.
    threads = max(1, usable_cores() // 2)
    with LlamaCpp.open(gguf, positions=max(map(len, texts)) + 1, threads=threads) as runtime:
        found = [runtime.log_probs(ids, start=len(ids) - 1)[0] for ids in texts[:TEXTS]]
        return Told([runtime.tokenize(text) for text in NASTY], found)


def _changed(ids: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    backend: Any = tokenizer
    composes = "NFC" in str(backend.backend_tokenizer.normalizer)
    for text, got, wanted in zip(NASTY, ids, nasty_ids(tokenizer), strict=True):
        # llama.cpp composes no characters: a text that is composed already tells.
        told_otherwise = composes and unicodedata.normalize("NFC", text) != text
        if got != wanted and not told_otherwise:
            yield text


def _divergence(
    log_probs_V: list[Tensor], texts: Sequence[Sequence[int]], logits_TV: Tensor
) -> float:
    """Mean KL(torch || llama.cpp) after the first texts, in nats."""
    ends = (torch.tensor([len(ids) for ids in texts]).cumsum(0) - 1).tolist()
    found = []
    for got, end in zip(log_probs_V, ends, strict=False):
        wanted = logits_TV[end].log_softmax(-1)
        # As text they do not sum up to one exactly.
        told = got[: len(wanted)].log_softmax(-1)
        found.append(float((wanted.exp() * (wanted - told)).sum()))
    return sum(found) / len(found)
