"""Causal attention inside each document of a flat batch: plain torch, no model library.

On a CPU it is a few batched products a document, over blocks of queries that read no key after
them. The probabilities of short documents are kept for the backward pass; those of long ones are
computed again there, bit for bit, so that memory grows with the length and not with its square.
torch's own kernel, whose bfloat16 backward is several times slower on a CPU, serves GPUs.

T tokens of the batch   L tokens of one document   P of the shared prefix   N keys of a block
H query heads   K key heads   G = H / K   W head width
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

QUERY_BLOCK = 256  # queries of one product: half of the keys after them are never multiplied

# Probabilities of H * L / 2 values a token and layer: at 1,024 tokens about half of all else that
# a layer of SmolLM2 keeps. Computing them again costs one of the backward pass's five products.
KEEP_PROBABILITIES_UP_TO = 1024


@dataclass(frozen=True)
class Documents:
    """How a flat batch is cut: the lengths of its pieces, end to end.

    With a shared prefix the first piece is that prefix, computed once, and every other piece goes
    on from it: it sees the prefix's keys before its own.
    """

    lengths: tuple[int, ...]
    prefix: int = 0

    def pieces(self) -> Iterator[tuple[slice, int]]:
        """The rows of each piece, and how many of the first rows it sees besides."""
        begin = 0
        for number, length in enumerate(self.lengths):
            yield slice(begin, begin + length), self.prefix if number else 0
            begin += length


@dataclass(frozen=True)
class Attention:
    """How attention is computed; `keep_up_to` tokens a document, its probabilities are kept."""

    kind: Literal["blocks", "sdpa"] = "blocks"
    keep_up_to: int = KEEP_PROBABILITIES_UP_TO

    def told(self, longest: int) -> str:
        """How a run whose longest document has so many tokens computes it: one line, to record."""
        if self.kind == "sdpa":
            return "sdpa"
        if longest <= self.keep_up_to:
            return "probabilities kept"
        return f"probabilities kept up to {self.keep_up_to} tokens"


CPU_ATTENTION, GPU_ATTENTION = Attention(), Attention("sdpa")


def attention_on(device: torch.device) -> Attention:
    """The faster way on this device."""
    return CPU_ATTENTION if device.type == "cpu" else GPU_ATTENTION


def documents_attention(
    query_HTW: Tensor,
    key_KTW: Tensor,
    value_KTW: Tensor,
    documents: Documents,
    window: int,
    scale: float,
    attention: Attention = CPU_ATTENTION,
) -> Tensor:
    """`[T, H, W]` in the dtype of `value_KTW`. Query head h reads key head `h // G`.

    `window` is how many tokens a query sees at most, itself among them; 0: all before it.
    """
    dtype = value_KTW.dtype
    query, key = query_HTW.to(dtype), key_KTW.to(dtype)
    if attention.kind == "sdpa":
        return _by_sdpa(query, key, value_KTW, documents, window, scale)
    out: Tensor = _BlockAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value_KTW, documents, window, scale, attention.keep_up_to
    )
    return out


def visible(queries: int, keys: int, window: int, device: torch.device | None = None) -> Tensor:
    """Bool `[queries, keys]`: which key each query sees, the last query being the last key."""
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return seen.triu(keys - queries - window + 1) if window else seen


def _by_sdpa(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, window: int, scale: float
) -> Tensor:
    """Each piece through torch's own kernel."""
    # Only here: it brings torch's compiler with it, a second that processors need not wait.
    from torch.nn.attention.bias import causal_lower_right

    outputs = []
    for rows, seen in documents.pieces():
        q, k, v = query[:, rows], _with_prefix(key, rows, seen), _with_prefix(value, rows, seen)
        queries, keys = q.shape[1], k.shape[1]
        mask = None
        if window and window < keys:
            mask = visible(queries, keys, window, q.device)
        elif seen:
            mask = causal_lower_right(queries, keys)
        out = scaled_dot_product_attention(
            q[None],
            k[None],
            v[None],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=True,
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def _with_prefix(x_KTW: Tensor, rows: slice, seen: int) -> Tensor:
    own = x_KTW[:, rows]
    return torch.cat([x_KTW[:, :seen], own], 1) if seen else own.contiguous()


@dataclass(frozen=True)
class _Block:
    """Some queries of a document, and the keys that one of them sees."""

    queries: slice  # of the piece
    keys: slice  # of the prefix and the piece


def _blocks(length: int, seen: int, window: int) -> Iterator[_Block]:
    """A document in equal blocks of queries; `seen` tokens stand before it."""
    count = -(-length // QUERY_BLOCK)
    for number in range(count):
        begin, end = (length * n // count for n in (number, number + 1))
        first = max(0, seen + begin - window + 1) if window else 0
        yield _Block(slice(begin, end), slice(first, seen + end))


class _BlockAttention(torch.autograd.Function):
    """Batched matrix products over blocks of queries.

    The query heads that share a key head are stacked along the rows, so that one product serves
    them all: `[K, G * L, W] @ [K, W, N]`. The scale goes into the queries: no pass of its own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        documents: Documents,
        window: int,
        scale: float,
        keep_up_to: int,
    ) -> Tensor:
        heads, tokens, _ = query.shape
        out_THW = value.new_empty(tokens, heads, value.shape[-1])
        kept: list[Tensor] = []
        for rows, seen in documents.pieces():
            length = rows.stop - rows.start
            k, v = _with_prefix(key, rows, seen), _with_prefix(value, rows, seen)
            for block in _blocks(length, seen, window):
                q = _stack(query[:, rows][:, block.queries], len(k)).mul_(scale)
                p = _probabilities(q, k[:, block.keys], heads, window)
                attended = torch.bmm(p, v[:, block.keys]).view(heads, -1, v.shape[-1])
                out_THW[rows][block.queries] = attended.transpose(0, 1)
                if seen + length <= keep_up_to:
                    kept.append(p)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.documents, ctx.window, ctx.scale, ctx.keep_up_to = documents, window, scale, keep_up_to
        return out_THW

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_THW,) = grads
        query, key, value, *probabilities = ctx.saved_tensors
        documents, window, keep_up_to = ctx.documents, ctx.window, ctx.keep_up_to
        kept = iter(probabilities)
        # In memory [T, heads, W], as the projections want their gradients.
        dq, dk, dv = (_like(x) for x in (query, key, value))
        shared: tuple[Tensor, Tensor] | None = None
        for rows, seen in documents.pieces():
            length = rows.stop - rows.start
            k, v = _with_prefix(key, rows, seen), _with_prefix(value, rows, seen)
            g_k, g_v = _sums(k), _sums(v)
            for block in _blocks(length, seen, window):
                q = _stack(query[:, rows][:, block.queries], len(k)).mul_(ctx.scale)
                if seen + length <= keep_up_to:
                    p = next(kept)
                else:
                    p = _probabilities(q, k[:, block.keys], len(query), window)
                g = _stack(g_THW[rows][block.queries].transpose(0, 1), len(k))
                dp = torch.bmm(g, v[:, block.keys].transpose(1, 2))
                ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
                g_v[:, block.keys] += torch.bmm(p.transpose(1, 2), g)
                g_k[:, block.keys] += torch.bmm(ds.transpose(1, 2), q)
                g_q = torch.bmm(ds, k[:, block.keys]).mul_(ctx.scale)
                dq[:, rows][:, block.queries] = g_q.view(len(query), -1, g_q.shape[-1])
            if shared is None and documents.prefix:
                shared = g_k, g_v  # the prefix itself; what the others ask of it is added
                continue
            dk[:, rows], dv[:, rows] = g_k[:, seen:], g_v[:, seen:]
            if shared is not None:
                shared[0].add_(g_k[:, :seen])
                shared[1].add_(g_v[:, :seen])
        if shared is not None:
            dk[:, : documents.prefix], dv[:, : documents.prefix] = shared
        return dq, dk, dv, None, None, None, None


def _probabilities(q: Tensor, k: Tensor, heads: int, window: int) -> Tensor:
    """`[K, G * L, N]` of scaled queries `[K, G * L, W]` and the keys up to the last of them."""
    scores = torch.bmm(q, k.transpose(1, 2)).view(heads, -1, k.shape[1])
    queries, keys = scores.shape[1:]
    if window and window < keys:
        scores.masked_fill_(~visible(queries, keys, window, q.device), -torch.inf)
    else:  # only the last keys are later than some query of the block
        hidden = _future(QUERY_BLOCK, q.dtype, q.device)[:queries, :queries]
        scores[..., keys - queries :] += hidden
    return torch.softmax(scores, -1).view(*q.shape[:2], -1)


@functools.lru_cache(maxsize=8)
def _future(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Minus infinity where a key comes after the query: the corner of it serves every block."""
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu(1)


def _stack(x_HLW: Tensor, key_heads: int) -> Tensor:
    """A copy `[H, L, W]` -> `[K, G * L, W]`: the query heads of one key head below each other."""
    stacked = torch.empty_like(x_HLW, memory_format=torch.contiguous_format).copy_(x_HLW)
    return stacked.view(key_heads, -1, x_HLW.shape[-1])


def _sums(x_KNW: Tensor) -> Tensor:
    """Where gradients of keys add up, in float32 at least."""
    return torch.zeros_like(x_KNW, dtype=torch.promote_types(x_KNW.dtype, torch.float32))


def _like(x_HTW: Tensor) -> Tensor:
    """A gradient to be filled, `[T, H, W]` in memory."""
    heads, tokens, width = x_HTW.shape
    return x_HTW.new_empty(tokens, heads, width).transpose(0, 1)
