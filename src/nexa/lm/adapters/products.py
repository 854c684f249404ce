"""The arithmetic of an adapted layer: base and update in one product, rounded once.

Why one product: added to an already rounded `x W^T` in bfloat16, an update below half a unit in
the last place vanishes, and with it early learning (docs/log.md). As further columns of the same
product it is added in the float32 accumulator.

Shapes: x and d `[T, in]` (d: x after dropout, the adapter's input), W `[out, in]`, A `[rank, in]`,
B `[out, rank]`, magnitude m `[out]`. The layer is asked for W in each pass, so that a dense copy
of a quantised weight lives as long as the product that needs it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear

from nexa.lm.adapters.layers import Layer, frozen_weight


def delta(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """What an adapter adds to its layer's weight: `scale * B A`, float32 `[out, in]`."""
    return torch.matmul(b.float(), a.float()).mul_(scale)


@torch.no_grad()
def row_norms(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """`|W + scale B A|` of each row, float32 `[out]`: what DoRA divides a row's direction by."""
    norms: Tensor = torch.linalg.vector_norm(delta(a, b, scale).add_(weight), dim=1)
    # A row of zeros has no direction; its magnitude is zero too, and its ratio so as well.
    return norms.clamp_min_(torch.finfo(torch.float32).tiny)


class LoraProduct(Function):
    """`x W^T + bias + scale * (d A^T) B^T` as one product, `[x | d A^T] [W | scale B]^T`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        layer: Layer,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        """`dropped` is d; None: x itself."""
        weight = frozen_weight(layer)
        dtype = weight.dtype
        source = (x if dropped is None else dropped).to(dtype)
        a, b = a.to(dtype), (b * scale).to(dtype)
        low = source @ a.T
        wide = torch.cat([x.to(dtype), low], 1)
        ctx.save_for_backward(source, a, b, low)
        ctx.layer, ctx.scale, ctx.dtype, ctx.dropped = layer, scale, x.dtype, dropped is not None
        return linear(wide, torch.cat([weight, b], 1), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """By x, d, A and B."""
        (g,) = grads
        source, a, b, low = ctx.saved_tensors
        g_low = g @ b
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = g @ frozen_weight(ctx.layer)
            if ctx.dropped:
                grad_dropped = (g_low @ a).to(ctx.dtype)
            else:
                grad_x.addmm_(g_low, a)
            grad_x = grad_x.to(ctx.dtype)
        grad_a = (g_low.T @ source).float()
        grad_b = (g.T @ low).float().mul_(ctx.scale)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None


class DoraProduct(Function):
    """`x W^T + bias + (r - 1) (d W^T) + r scale (d A^T) B^T`, with `r = m / |W + scale B A|`.

    Without dropout this is `r x (W + scale B A)^T + bias`: a row's direction, and its magnitude
    m. As one product: `[x | d | d A^T] [W | (r - 1) W | r scale B]^T`. W takes part twice since
    `r W` in bfloat16 is W wherever r is within 1/512 of 1, as it is early in training. The norm
    is taken as a constant in the backward pass, as in section 4.3 of the paper.

    Source: Liu et al. 2024, arXiv:2402.09353; with dropout as PEFT computes it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        layer: Layer,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        magnitude: Tensor,
        scale: float,
    ) -> Tensor:
        """`dropped` is d; None: x itself."""
        weight = frozen_weight(layer)
        dtype = weight.dtype
        norms = row_norms(weight, a, b, scale)
        ratio = (magnitude / norms)[:, None]
        source = (x if dropped is None else dropped).to(dtype)
        low = source @ a.T.to(dtype)
        update = (b * scale * ratio).to(dtype)
        ctx.save_for_backward(source, low, a, b, norms, ratio)
        ctx.layer, ctx.scale, ctx.dtype, ctx.dropped = layer, scale, x.dtype, dropped is not None
        if dropped is None and dtype == torch.float32:  # exact enough in one
            return linear(torch.cat([x, low], 1), torch.cat([weight * ratio, update], 1), bias)
        wide = torch.cat([x.to(dtype), source, low], 1)
        more = (weight * (ratio - 1)).to(dtype)
        return linear(wide, torch.cat([weight, more, update], 1), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """By x, d, A, B and m."""
        (g,) = grads
        source, low, a, b, norms, ratio = ctx.saved_tensors
        weight = frozen_weight(ctx.layer)
        g_low = g @ (b * ctx.scale * ratio).to(g.dtype)
        grad_a = (g_low.T @ source).float()
        by_b = (g.T @ low).float().mul_(ctx.scale)
        # A ratio's gradient is that of its row of W + scale B A, summed up along the row.
        by_ratio = (g.T @ source).mul_(weight).sum(1, dtype=torch.float32) + (by_b * b).sum(1)
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            a = a.to(g.dtype)
            if ctx.dropped:
                grad_x = (g @ weight).to(ctx.dtype)
                turned = (g * (ratio.T - 1)).to(g.dtype)
                grad_dropped = (turned @ weight).addmm_(g_low, a).to(ctx.dtype)
            else:
                grad_x = ((g * ratio.T).to(g.dtype) @ weight).addmm_(g_low, a).to(ctx.dtype)
        return grad_x, grad_dropped, None, None, grad_a, by_b * ratio, by_ratio / norms, None
