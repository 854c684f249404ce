"""Greedy decoding on the fused decoder: many prompts read flat, then one token each a step.

Prompts are laid end to end without padding, what they all begin with once, and read in chunks.
Then every step is one pass over the weights for all rows together. Read `GenerationBatch` first;
`generation_model` has the arithmetic of a layer, `generation_cache` the attention of a step.

    T tokens of a chunk   N documents or rows of it   D width
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from nexa.lm.decoder.generation_cache import GenerationCache
from nexa.lm.decoder.generation_model import Attend, GenerationModel
from nexa.lm.documents import Documents, documents_attention

# Tokens that are read at once: the intermediate values of more outgrow the caches.
READ_TOKENS = 2048

# `(layer, key [T, K, W], value [T, K, W])`: who wants to keep what a prompt's tokens left.
Keep = Callable[[int, Tensor, Tensor], None]


class GenerationBatch:
    """Prompts that were read and what follows them, one row each.

    `next_ids` `[B]` holds the likeliest token after each row; ties go to the smaller id.
    """

    def __init__(self, model: GenerationModel, prompts: Sequence[Sequence[int]]) -> None:
        """Read the prompts, best sorted by length; none is empty."""
        self.model = model
        lengths = [len(prompt) for prompt in prompts]
        self.positions = torch.tensor(lengths) - 1
        self.next_ids = torch.zeros_like(self.positions)
        self._cache = GenerationCache(model.shape, lengths, model.dtype)
        prefix = common_prefix(prompts)
        for rows in _chunks(lengths, prefix):
            self._read(prompts, rows, prefix)

    def step(self) -> None:
        """Append `next_ids` to every row and find the token after it."""
        self.positions += 1
        self._cache.append()
        hidden_BD = self.model.hidden(self.next_ids, self.positions, self._cache.attend)
        self.next_ids = _likeliest(self.model.logits(hidden_BD))

    def keep(self, rows: Sequence[int]) -> None:
        """Take every other row out of the batch; `rows` rise."""
        kept = torch.tensor(rows)
        self.positions, self.next_ids = self.positions[kept], self.next_ids[kept]
        self._cache.keep(rows)

    def _read(self, prompts: Sequence[Sequence[int]], rows: range, prefix: int) -> None:
        """Read some rows, the prefix once more for them, and lay what they left into the cache."""
        own = [prompts[row][prefix:] for row in rows]
        pieces = [prompts[0][:prefix], *own] if prefix else own
        documents = Documents(tuple(map(len, pieces)), prefix)
        cut = [piece for piece, _ in documents.pieces()]
        shared = cut[:1] if prefix else []

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            for row, piece in zip(rows, cut[len(shared) :], strict=True):
                parts = [(key[part], value[part]) for part in (*shared, piece)]
                self._cache.lay(layer, row, parts)

        ends = torch.tensor([piece.stop - 1 for piece in cut[len(shared) :]])
        hidden_ND = read(self.model, pieces, documents, wanted=ends, keep=keep)
        self.next_ids[rows.start : rows.stop] = _likeliest(self.model.logits(hidden_ND))


def read(
    model: GenerationModel,
    pieces: Sequence[Sequence[int]],
    documents: Documents,
    *,
    wanted: Tensor | None = None,
    keep: Keep | None = None,
) -> Tensor:
    """Hidden states `[N, D]` of documents laid end to end, at `wanted` positions or at all."""
    ids = torch.tensor([token for piece in pieces for token in piece])
    positions = torch.cat(
        [torch.arange(seen, seen + at.stop - at.start) for at, seen in documents.pieces()]
    )
    return model.hidden(ids, positions, _reading(model, documents, keep), wanted)


def _reading(model: GenerationModel, documents: Documents, keep: Keep | None) -> Attend:
    shape = model.shape

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if keep is not None:
            keep(layer, key, value)
        q, k, v = (x.transpose(0, 1) for x in (query, key, value))
        scale = shape.head_width**-0.5
        return documents_attention(q, k, v, documents, shape.window, scale).flatten(1)

    return attend


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, less than the shortest has: each keeps one its own.

    0 for a single prompt, which shares with nobody.
    """
    if len(prompts) < 2:
        return 0
    most = min(map(len, prompts)) - 1
    columns = zip(*(prompt[:most] for prompt in prompts), strict=True)
    return next((at for at, tokens in enumerate(columns) if len(set(tokens)) > 1), most)


def _chunks(lengths: Sequence[int], prefix: int) -> Iterator[range]:
    """Row ranges of at most READ_TOKENS, the prefix counted once, or of one row."""
    start, tokens = 0, prefix
    for row, length in enumerate(lengths):
        if row > start and tokens + length - prefix > READ_TOKENS:
            yield range(start, row)
            start, tokens = row, prefix
        tokens += length - prefix
    yield range(start, len(lengths))


def _likeliest(logits_NV: Tensor) -> Tensor:
    # Not argmax: on bfloat16 it takes six times as long on a CPU (12 ms for 64 rows of 49,152).
    return logits_NV.max(-1).indices
