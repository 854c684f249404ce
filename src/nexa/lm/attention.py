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
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from nexa.core.errors import ModelError
from nexa.lm.documents import Documents, attention_on, documents_attention

NAME = "nexa_documents"
OTHER = -1  # in the place of a window: a mask that is not causal attention inside each document

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
    out = documents_attention(
        query[0],
        key[0],
        value[0],
        Documents(tuple(lengths)),
        window,
        scale,
        attention_on(query.device),
    )
    return out[None], None
