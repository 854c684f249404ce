"""How likely a model finds each of several continuations of a prompt, many prompts at once.

What is scored is log P(continuation | prompt): the prompt is only read. On the fused decoder the
continuations of one prompt share what it left, and prompts with one continuation each are laid end
to end; transformers reads padded batches; llama.cpp keeps the prompt that it has just read.

T tokens   B texts of a batch   N predicted tokens   V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.events import progress
from nexa.lm.decoder.generation import read
from nexa.lm.documents import Documents
from nexa.lm.fused import FusedModel
from nexa.lm.gguf_run import GgufRun
from nexa.lm.load import LoadedModel
from nexa.lm.local import Opened
from nexa.lm.score import LOSS_POSITIONS

Ids = Sequence[int]

# Tokens, padding included, that are read at once.
READ_TOKENS = 2048


@dataclass(frozen=True)
class Continued:
    """A prompt and what may follow it, as token ids; no continuation is empty."""

    prompt: Ids
    continuations: tuple[Ids, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is read: of the last token nothing is asked."""
        return len(self.prompt) + max(map(len, self.continuations)) - 1

    @property
    def alone(self) -> list[Continued]:
        """One text for each continuation."""
        return [Continued(self.prompt, (each,)) for each in self.continuations]


def log_likelihoods(loaded: Opened, asked: Sequence[Continued]) -> list[list[float]]:
    """Nats of every continuation of every prompt, in their order; each at most 0.

    Whoever answers reads, as in `nexa.lm.score.cross_entropy`.

    Raises:
        ModelError: an empty prompt, no continuation or an empty one, or a text that outgrows the
            model's positions.
    """
    loaded.require_current()
    _require_texts(loaded, asked)
    texts = [text for each in asked for text in each.alone]
    found = [0.0] * len(texts)
    with progress("reading choices", len(texts), "choices") as bar:
        for places, nats in _read(loaded, asked, texts):
            for place, value in zip(places, nats, strict=True):
                found[place] = value
            bar.advance(len(nats))
    rest = iter(found)
    return [[next(rest) for _ in each.continuations] for each in asked]


def _read(
    loaded: Opened, asked: Sequence[Continued], texts: Sequence[Continued]
) -> Iterator[tuple[Sequence[int], list[float]]]:
    """Batch by batch: places among `texts`, one for each continuation, and their nats."""
    if isinstance(loaded, GgufRun):
        for place, text in enumerate(texts):
            yield [place], [_by_llama_cpp(loaded, text)]
    elif isinstance(loaded, FusedModel):
        begin = 0
        for batch in _batches(asked):
            nats = _fused(loaded, batch)
            yield range(begin, begin + len(nats)), nats
            begin += len(nats)
    else:
        for places in _padded(texts):
            yield places, _generic(loaded, [texts[place] for place in places])


def _require_texts(loaded: Opened, asked: Sequence[Continued]) -> None:
    for place, each in enumerate(asked):
        if not each.prompt or not each.continuations or not all(each.continuations):
            raise ModelError(
                f"prompt {place} cannot be continued: it, or what follows it, has no tokens"
            )
    longest = max((each.longest for each in asked), default=0)
    if loaded.positions is not None and longest > loaded.positions:
        raise ModelError(
            "a text does not fit into the model",
            found=f"{longest} tokens, {loaded.files.name} has room for {loaded.positions}",
        )


# -- the fused decoder ---------------------------------------------------------------------------


def _batches(asked: Sequence[Continued]) -> Iterator[list[Continued]]:
    """In their order: prompts with several continuations alone, others as many as fit."""
    batch: list[Continued] = []
    for each in asked:
        several = len(each.continuations) > 1
        tokens = sum(text.longest for text in batch) + each.longest
        if batch and (several or tokens > READ_TOKENS):
            yield batch
            batch = []
        if several:
            yield from ([some] for some in _cut(each))
        else:
            batch.append(each)
    if batch:
        yield batch


def _cut(asked: Continued) -> Iterator[Continued]:
    """A prompt with as many of its continuations at a time as READ_TOKENS hold, one at least."""
    some: list[Ids] = []
    for continuation in asked.continuations:
        if some and len(asked.prompt) + sum(map(len, some)) + len(continuation) > READ_TOKENS:
            yield Continued(asked.prompt, tuple(some))
            some = []
        some.append(continuation)
    yield Continued(asked.prompt, tuple(some))


@torch.no_grad()
def _fused(loaded: FusedModel, batch: Sequence[Continued]) -> list[float]:
    """One prompt with what it shares with its continuations read once, or whole texts."""
    first = batch[0]
    shares = len(first.continuations) > 1
    seen = first.prompt[:-1] if shares else []
    # The prompt's last token predicts the first one after it, so each piece has one of its own.
    texts = [text for each in batch for text in each.alone]
    own = [
        [*(text.prompt[-1:] if shares else text.prompt), *text.continuations[0][:-1]]
        for text in texts
    ]
    pieces = [seen, *own] if seen else own
    documents = Documents(tuple(map(len, pieces)), len(seen))
    ends = [rows.stop for rows, _ in documents.pieces()][-len(own) :]
    counts = [len(text.continuations[0]) for text in texts]
    wanted = [at for end, n in zip(ends, counts, strict=True) for at in range(end - n, end)]
    hidden_ND = read(loaded.model, pieces, documents, wanted=torch.tensor(wanted))
    targets_N = torch.tensor([token for text in texts for token in text.continuations[0]])
    pairs = zip(hidden_ND.split(LOSS_POSITIONS), targets_N.split(LOSS_POSITIONS), strict=True)
    nats_N = torch.cat([_nats(loaded.model.logits(hidden), ids) for hidden, ids in pairs])
    return _sums(nats_N, counts)


# -- transformers --------------------------------------------------------------------------------


def _padded(texts: Sequence[Continued]) -> Iterator[list[int]]:
    """Places of texts that are read together: the longest first, READ_TOKENS with padding."""
    order = sorted(range(len(texts)), key=lambda place: (-texts[place].longest, place))
    while order:
        rows = max(1, READ_TOKENS // texts[order[0]].longest)
        yield order[:rows]
        order = order[rows:]


@torch.no_grad()
def _generic(loaded: LoadedModel, texts: Sequence[Continued]) -> list[float]:
    """A batch padded on the right, where no token that counts sees the padding."""
    device = loaded.model.device
    rows = [[*text.prompt, *text.continuations[0][:-1]] for text in texts]
    ids_BT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long, device=device)
    mask_BT = torch.zeros_like(ids_BT)
    for row, tokens in enumerate(rows):
        ids_BT[row, : len(tokens)] = torch.tensor(tokens)
        mask_BT[row, : len(tokens)] = 1
    logits_BTV = loaded.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    found = []
    for row, text in enumerate(texts):
        wanted_N = torch.tensor(list(text.continuations[0]), device=device)
        logits_NV = logits_BTV[row, len(rows[row]) - len(wanted_N) : len(rows[row])]
        found += _sums(_nats(logits_NV, wanted_N), [len(wanted_N)])
    return found


# -- llama.cpp -----------------------------------------------------------------------------------


def _by_llama_cpp(loaded: GgufRun, text: Continued) -> float:
    ids = [*text.prompt, *text.continuations[0]]
    server = loaded.server(len(ids))
    return min(0.0, math.fsum(server.token_log_probs(ids, start=len(text.prompt))))


def _nats(logits_NV: Tensor, wanted_N: Tensor) -> Tensor:
    """Log-probabilities of the wanted tokens, in float64 for their sum."""
    return logits_NV.float().log_softmax(-1).gather(1, wanted_N[:, None])[:, 0].double()


def _sums(nats_N: Tensor, counts: Sequence[int]) -> list[float]:
    return [float(part.sum()) for part in nats_N.split(list(counts))]
