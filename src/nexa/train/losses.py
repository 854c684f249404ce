"""Cross-entropy at label positions only, in chunks: the whole logits never exist.

For SmolLM2's 49,152 entries and a batch of 4,096 tokens they would be 0.8 GB, four times over.

    N label positions   D width   V vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # the fused executor has a head of its own, and needs no transformers
    from transformers import PreTrainedModel

CHUNK_LOGITS = 1 << 24  # 32 MB in bfloat16: large enough for the product
ROWS_LOGITS = 1 << 20  # 4 MB in float32: what is done to a row's logits stays in the cache


@dataclass(frozen=True)
class LabelHead:
    """A model's output head: `softcap(scale * (h W^T + bias))`."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def loss_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Summed cross-entropy in nats, float32."""
        out: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden_ND, self.weight, self.bias, targets_N, self.scale, self.softcap
        )
        return out

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Float32 logits `[N, V]`: for small N."""
        dtype = compute_dtype(self.weight)
        bias = None if self.bias is None else self.bias.to(dtype)
        return _logits(hidden_ND.to(dtype), self.weight.to(dtype), bias, self.scale, self.softcap)


def label_head(model: PreTrainedModel) -> LabelHead | None:
    """The head of `model` by its configuration, or None if it has no linear one.

    Whether it is all that the model does to its hidden states is for a probe to find out.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return None
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # Cohere multiplies,
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite divides
    return LabelHead(
        head.weight, head.bias, scale, getattr(config, "final_logit_softcapping", None)
    )


def compute_dtype(weight: Tensor) -> torch.dtype:
    """What products with `weight` are computed in: its own dtype, or autocast's."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient is taken together with the loss, while a chunk's logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        dtype = compute_dtype(weight_VD)
        w = weight_VD.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        wants_h, wants_w, wants_b = ctx.needs_input_grad[:3]
        grad_h = torch.empty_like(hidden_ND) if wants_h else None
        grad_w = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_w else None
        grad_b = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None else None
        total = torch.zeros((), dtype=torch.float64, device=hidden_ND.device)
        rows = max(1, CHUNK_LOGITS // len(weight_VD))
        for begin in range(0, len(targets_N), rows):
            part = slice(begin, begin + rows)
            h = hidden_ND[part].to(dtype)
            g = nn.functional.linear(h, w, bias)  # the logits, and in their place their gradient
            total += _by_logits(g, targets_N[part, None], scale, softcap)
            if grad_b is not None and wants_b:
                grad_b += g.sum(0, dtype=torch.float32)
            if grad_h is not None:
                grad_h[part] = g @ w
            if grad_w is not None:
                grad_w += (g.T @ h).float()
        ctx.grads = (grad_h, grad_w, grad_b if wants_b else None)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In place: a graph is walked once, and these may be as large as the head.
        parts = (None if x is None else x.mul_(grads[0].to(x.dtype)) for x in ctx.grads)
        return (*parts, None, None, None)


def _by_logits(
    logits_NV: Tensor, targets_N1: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """The loss of unscaled logits, summed in float64, and in their place their gradient.

    A few rows at a time on a CPU: in float32, all of them would go through memory five times.
    """
    total = torch.zeros((), dtype=torch.float64, device=logits_NV.device)
    vocabulary = logits_NV.shape[1]
    rows = len(logits_NV) if logits_NV.is_cuda else max(1, ROWS_LOGITS // vocabulary)
    for begin in range(0, len(logits_NV), rows):
        part = slice(begin, begin + rows)
        y, logits = targets_N1[part], _squashed(logits_NV[part].float(), scale, softcap)
        p = torch.log_softmax(logits, -1)
        total -= p.gather(1, y).sum(dtype=torch.float64)
        p = p.exp_().scatter_add_(1, y, p.new_full(y.shape, -1.0))
        if softcap is not None:
            # Squashed logits z = c tanh(u / c) have the slope 1 - (z / c)^2.
            p.mul_(1 - (logits / softcap).square())
        logits_NV[part] = p if scale == 1.0 else p.mul_(scale)
    return total


def _logits(
    h: Tensor, w: Tensor, bias: Tensor | None, scale: float, softcap: float | None
) -> Tensor:
    return _squashed(nn.functional.linear(h, w, bias).float(), scale, softcap)


def _squashed(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)
