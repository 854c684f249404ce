"""Causal attention inside each document of a flat batch: plain torch, no model library.

T tokens of the batch   L tokens of one document   P of the shared prefix
H query heads   K key heads   G = H / K   W head width
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Documents up to this many tokens keep their attention probabilities for the backward pass, which
# is several times faster on a CPU than SDPA's bfloat16 backward; the memory is quadratic in the
# length, so longer ones go through SDPA. At 1,024 tokens: H * 2 MB a document and layer.
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


def documents_attention(
    query_HTW: Tensor,
    key_KTW: Tensor,
    value_KTW: Tensor,
    documents: Documents,
    window: int,
    scale: float,
    *,
    keep_up_to: int = KEEP_PROBABILITIES_UP_TO,
) -> Tensor:
    """`[T, H, W]` in the dtype of `value_KTW`. Query head h reads key head `h // G`.

    `window` is how many tokens a query sees at most, itself among them; 0: all before it.
    Documents of more than `keep_up_to` tokens go through torch's own kernel.
    """
    dtype = value_KTW.dtype
    query, key = query_HTW.to(dtype), key_KTW.to(dtype)
    if max(documents.lengths) + documents.prefix <= keep_up_to:
        out: Tensor = _KeptAttention.apply(  # type: ignore[no-untyped-call]
            query, key, value_KTW, documents, window, scale
        )
        return out
    outputs = []
    for rows, seen in documents.pieces():
        k, v = (_with_prefix(x, rows, seen) for x in (key, value_KTW))
        length = rows.stop - rows.start
        if seen or length > keep_up_to:
            outputs.append(_sdpa(query[:, rows], k, v, window, scale))
        else:
            one = Documents((length,))
            outputs.append(_KeptAttention.apply(query[:, rows], k, v, one, window, scale))  # type: ignore[no-untyped-call]
    return torch.cat(outputs)


def _with_prefix(x_KTW: Tensor, rows: slice, seen: int) -> Tensor:
    own = x_KTW[:, rows]
    return torch.cat([x_KTW[:, :seen], own], 1) if seen else own


def _sdpa(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """One long document through torch's own kernel, which keeps no probabilities."""
    mask = None
    length, keys = q.shape[1], k.shape[1]
    if keys != length or (window and window < length):
        mask = visible(keys, window, q.device)[keys - length :]
    out = scaled_dot_product_attention(
        q[None],
        k[None],
        v[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)


def visible(length: int, window: int, device: torch.device | None = None) -> Tensor:
    """Bool `[L, L]`: which key (column) each query (row) of a document sees; window 0: none."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen.triu(1 - window) if window else seen


class _KeptAttention(torch.autograd.Function):
    """Batched matrix products a document; the probabilities are kept for the backward pass.

    The query heads that share a key head are stacked along the rows, so that one product serves
    them all: `[K, G * L, W] @ [K, W, P + L]`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_HTW: Tensor,
        k_KTW: Tensor,
        v_KTW: Tensor,
        documents: Documents,
        window: int,
        scale: float,
    ) -> Tensor:
        heads, tokens, width = q_HTW.shape
        key_heads = len(v_KTW)
        out_THW = v_KTW.new_empty(tokens, heads, width)
        kept: list[Tensor] = []
        for rows, seen in documents.pieces():
            length = rows.stop - rows.start
            q = _stack(q_HTW[:, rows], key_heads)
            k, v = (_with_prefix(x, rows, seen).contiguous() for x in (k_KTW, v_KTW))
            scores = torch.bmm(q, k.transpose(1, 2)).view(heads, length, seen + length)
            mask = _mask(seen + length, window, scores)[seen:]
            p = torch.softmax(torch.add(mask, scores, alpha=scale), -1)
            p = p.view(key_heads, -1, seen + length)
            out_THW[rows] = torch.bmm(p, v).view(heads, length, width).transpose(0, 1)
            kept += [q, k, v, p]
        ctx.save_for_backward(*kept)
        ctx.scale, ctx.documents = scale, documents
        ctx.shapes = q_HTW.shape, k_KTW.shape, v_KTW.shape
        return out_THW

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_THW,) = grads
        kept = ctx.saved_tensors
        # In memory [T, heads, W], as the projections want their gradients.
        dq, dk, dv = (
            g_THW.new_empty(tokens, heads, width).transpose(0, 1)
            for heads, tokens, width in ctx.shapes
        )
        shared: list[tuple[Tensor, Tensor]] = []
        groups = zip(*(kept[i::4] for i in range(4)), strict=True)
        for (rows, seen), (q, k, v, p) in zip(ctx.documents.pieces(), groups, strict=True):
            g = _stack(g_THW[rows].transpose(0, 1), len(k))
            dp = torch.bmm(g, v.transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(ctx.scale)
            g_k, g_v = torch.bmm(ds.transpose(1, 2), q), torch.bmm(p.transpose(1, 2), g)
            dk[:, rows], dv[:, rows] = g_k[:, seen:], g_v[:, seen:]
            dq[:, rows] = torch.bmm(ds, k).view(-1, rows.stop - rows.start, k.shape[2])
            if seen:
                shared.append((g_k[:, :seen], g_v[:, :seen]))
        if shared:
            _add_shared(dk, [g_k for g_k, _ in shared])
            _add_shared(dv, [g_v for _, g_v in shared])
        return dq, dk, dv, None, None, None


def _add_shared(grad_KTW: Tensor, parts: Sequence[Tensor]) -> None:
    """What all documents ask of the prefix they share, summed in float32."""
    first = grad_KTW[:, : parts[0].shape[1]]
    total = first.float()
    for part in parts:
        total += part
    first.copy_(total)


def _stack(x_HLW: Tensor, key_heads: int) -> Tensor:
    """`[H, L, W]` -> `[K, G * L, W]`: the query heads of one key head below each other."""
    return x_HLW.reshape(key_heads, -1, x_HLW.shape[-1])


def _mask(length: int, window: int, like: Tensor) -> Tensor:
    """Additive `[L, L]`: 0 where a query sees a key, minus infinity elsewhere."""
    # The upper left corner of the longest one: nothing in it depends on the length.
    whole = _longest_mask(window, like.dtype, like.device)
    return whole[:length, :length]


@functools.lru_cache(maxsize=8)
def _longest_mask(window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    seen = visible(KEEP_PROBABILITIES_UP_TO, window, device)
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -torch.inf)
