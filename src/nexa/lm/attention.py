"""Attention that never crosses from one document into the next, for rows laid end to end.

A flat batch holds whole documents one after another, without padding; `position_ids` restart at
each. transformers runs such a batch through the attention and mask functions registered here
under the name `nexa_documents`. The mask function asks transformers' own mask what may see what,
and sends on the little that describes it (window and document lengths); whatever differs from
causal attention inside each document is refused by name, never approximated.

    T tokens of the batch   L tokens of one document   H query heads   K key heads   D head width
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from nexa.core.errors import ModelError

NAME = "nexa_documents"
OTHER = -1  # in the place of a window: a mask that is not causal attention inside each document

# Documents up to this many tokens keep their attention probabilities for the backward pass, which
# is several times faster on a CPU than SDPA's bfloat16 backward; the memory is quadratic in the
# length, so longer ones go through SDPA. At 1,024 tokens: H * 2 MB a document and layer.
KEEP_PROBABILITIES_UP_TO = 1024

# Keyword arguments that models hand to any attention function and that change nothing here.
HARMLESS = frozenset(
    {
        "cache_position",
        "layer_idx",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)


# The documents of the batch that is going through a model, so that no mask can lose one unseen.
_documents: ContextVar[tuple[int, ...] | None] = ContextVar("nexa_documents", default=None)


class UnsupportedAttention(ModelError):
    """This architecture's attention is more than causal attention inside each document."""


@contextlib.contextmanager
def per_document(model: PreTrainedModel) -> Iterator[None]:
    """Run `model` with the attention of this module for the length of a block.

    Inside, call the model with `input_ids [1, T]`, `position_ids [1, T]` that restart at every
    document, `use_cache=False` and no attention mask; and within `documents`.

    Raises:
        UnsupportedAttention: the architecture does not look its attention up in the table.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, describe_mask)
    before = model.config._attn_implementation
    if not model._can_set_attn_implementation():
        raise UnsupportedAttention(
            f"{type(model).__name__} does not look its attention up in transformers' table"
        )
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextlib.contextmanager
def documents(lengths: Sequence[int]) -> Iterator[None]:
    """Say how long the documents of the batch are, for the length of a forward pass.

    A model whose own mask lets a token see the document before it is then refused.
    """
    token = _documents.set(tuple(lengths))
    try:
        yield
    finally:
        _documents.reset(token)


def describe_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    mask_function: Callable[..., Tensor],
    attention_mask: Tensor | None = None,
    use_vmap: bool = False,
    device: torch.device | None = None,
    **_: Any,
) -> Tensor:
    """What transformers' mask amounts to, as `[window, L_1, L_2, ...]` in shape `[1, 1, 1, n + 1]`.

    The documents are read off the mask itself: a document begins where a token does not see the
    token before it. Then the last and the middle token of every document are compared with plain
    causal attention inside that document and window; a window of 0 means none, and `OTHER` that
    the mask is something else. That is refused where it is used: some models make masks for
    kinds of layers that they do not have.

    Raises:
        UnsupportedAttention: a padded batch, a mask with functions of the model's own, or one that
            lets the `documents` of the batch see each other.
    """
    if batch_size != 1 or q_length != kv_length or attention_mask is not None or use_vmap:
        raise UnsupportedAttention("this attention takes one flat batch and no mask of its own")
    zero = torch.zeros((), dtype=torch.long, device=device)
    at = torch.arange(q_length, device=device)
    sees_previous = mask_function(zero, zero, at[1:], at[:-1]).expand(q_length - 1)
    starts = torch.cat([at[:1], at[1:][~sees_previous]])
    lengths = torch.diff(starts, append=at.new_tensor([q_length]))
    _require_documents(starts)
    ends = starts + lengths - 1

    longest = int(lengths.argmax())
    seen = int(mask_function(zero, zero, ends[longest], at).sum())
    window = 0 if seen == int(lengths[longest]) else seen
    probes = torch.cat([ends, starts + lengths // 2])[:, None]
    first = torch.cat([starts, starts])[:, None]
    if window:
        first = torch.maximum(first, probes - window + 1)
    expected = (at >= first) & (at <= probes)
    if not torch.equal(mask_function(zero, zero, probes, at[None]).expand_as(expected), expected):
        window = OTHER
    return torch.cat([lengths.new_tensor([window]), lengths]).view(1, 1, 1, -1)


def _require_documents(starts: Tensor) -> None:
    """Every document of the batch begins where the mask lets nothing before be seen."""
    lengths = _documents.get()
    if lengths is not None:
        begins = {0, *itertools.accumulate(lengths[:-1])}
        if not begins <= set(starts.tolist()):
            raise UnsupportedAttention(
                "this architecture's own mask lets a document see the one before it"
            )


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function of transformers' table: q `[1, H, T, D]`; k, v `[1, K, T, D]` -> `[1, T, H, D]`.

    Raises:
        UnsupportedAttention: dropout, soft-capping, sinks, position biases, or a mask that did not
            come from `describe_mask`; names the argument.
    """
    extra = sorted(k for k, v in kwargs.items() if k not in HARMLESS and v is not None)
    if dropout:
        extra.append("dropout")
    if is_causal is False or not getattr(module, "is_causal", True):
        extra.append("is_causal=False")
    if extra:
        raise UnsupportedAttention(
            f"the attention of {type(module).__name__} needs more than this one computes",
            found=", ".join(extra),
        )
    if attention_mask is None or attention_mask.dtype != torch.long:
        raise UnsupportedAttention(f"{type(module).__name__} does not use transformers' own mask")
    window, *lengths = attention_mask.flatten().tolist()
    if window == OTHER:
        raise UnsupportedAttention("this architecture's mask is not causal inside each document")
    if sliding_window is None and window:
        raise UnsupportedAttention(f"{type(module).__name__} has a window that it does not name")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = documents_attention(query[0], key[0], value[0], lengths, window, scale)
    return out[None], None


def documents_attention(
    query_HTD: Tensor,
    key_KTD: Tensor,
    value_KTD: Tensor,
    lengths: Sequence[int],
    window: int,
    scale: float,
    *,
    keep_up_to: int = KEEP_PROBABILITIES_UP_TO,
) -> Tensor:
    """Causal attention inside each document; `[T, H, D]` in the dtype of `value_KTD`.

    Query head h reads key head `h // (H // K)`. Documents of more than `keep_up_to` tokens go
    through torch's own kernel.
    """
    if max(lengths) <= keep_up_to:
        return _kept(query_HTD, key_KTD, value_KTD, lengths, window, scale)
    outputs, begin = [], 0
    for length in lengths:
        rows = slice(begin, begin + length)
        q, k, v = query_HTD[:, rows], key_KTD[:, rows], value_KTD[:, rows]
        short = length <= keep_up_to
        out = _kept(q, k, v, [length], window, scale) if short else _sdpa(q, k, v, window, scale)
        outputs.append(out)
        begin += length
    return torch.cat(outputs)


def _kept(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], window: int, scale: float
) -> Tensor:
    out: Tensor = _KeptAttention.apply(  # type: ignore[no-untyped-call]
        q.to(v.dtype), k.to(v.dtype), v, lengths, window, scale
    )
    return out


def _sdpa(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float) -> Tensor:
    """One long document through torch's own kernel, which keeps no probabilities."""
    q, k = q.to(v.dtype), k.to(v.dtype)
    mask = None
    if window and window < q.shape[1]:
        mask = visible(q.shape[1], window, q.device)
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
    them all: `[K, G * L, D] @ [K, D, L]` with `G = H // K`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_HTD: Tensor,
        k_KTD: Tensor,
        v_KTD: Tensor,
        lengths: Sequence[int],
        window: int,
        scale: float,
    ) -> Tensor:
        heads, tokens, _ = q_HTD.shape
        key_heads, _, width = v_KTD.shape
        out_THD = v_KTD.new_empty(tokens, heads, width)
        kept: list[Tensor] = []
        begin = 0
        for length in lengths:
            rows = slice(begin, begin + length)
            q, k, v = _stack(q_HTD[:, rows], key_heads), k_KTD[:, rows], v_KTD[:, rows]
            k, v = k.contiguous(), v.contiguous()
            scores = torch.bmm(q, k.transpose(1, 2)).view(heads, length, length)
            p = torch.softmax(torch.add(_mask(length, window, scores), scores, alpha=scale), -1)
            p = p.view(key_heads, -1, length)
            out_THD[rows] = torch.bmm(p, v).view(heads, length, width).transpose(0, 1)
            kept += [q, k, v, p]
            begin += length
        ctx.save_for_backward(*kept)
        ctx.scale, ctx.shapes = scale, (q_HTD.shape, k_KTD.shape, v_KTD.shape)
        return out_THD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_THD,) = grads
        kept = ctx.saved_tensors
        # In memory [T, heads, D], as the projections want their gradients.
        dq, dk, dv = (
            g_THD.new_empty(tokens, heads, width).transpose(0, 1)
            for heads, tokens, width in ctx.shapes
        )
        begin = 0
        for q, k, v, p in zip(*(kept[i::4] for i in range(4)), strict=True):
            key_heads, length, width = k.shape
            rows = slice(begin, begin + length)
            g = _stack(g_THD[rows].transpose(0, 1), key_heads)
            dp = torch.bmm(g, v.transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dv[:, rows] = torch.bmm(p.transpose(1, 2), g)
            dk[:, rows] = torch.bmm(ds.transpose(1, 2), q).mul_(ctx.scale)
            dq[:, rows] = torch.bmm(ds, k).mul_(ctx.scale).view(-1, length, width)
            begin += length
        return dq, dk, dv, None, None, None


def _stack(x_HLD: Tensor, key_heads: int) -> Tensor:
    """`[H, L, D]` -> `[K, G * L, D]`: the query heads of one key head below each other."""
    return x_HLD.reshape(key_heads, -1, x_HLD.shape[-1])


def _mask(length: int, window: int, like: Tensor) -> Tensor:
    """Additive `[L, L]`: 0 where a query sees a key, minus infinity elsewhere."""
    # The upper left corner of the longest one: nothing in it depends on the length.
    whole = _longest_mask(window, like.dtype, like.device)
    return whole[:length, :length]


@functools.lru_cache(maxsize=8)
def _longest_mask(window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    seen = visible(KEEP_PROBABILITIES_UP_TO, window, device)
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -torch.inf)
