"""What stands between a decoder's matrix products: each with a backward of its own.

Every function keeps the least that its backward needs. The residual stream is float32, so that an
update is never rounded away; what goes into a product has the product's dtype.

    T tokens   D width   H heads   W width of a head   F width of the MLP
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def add_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x + update` float32 `[T, D]`, and its RMS norm in the dtype of `weight`.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    out: tuple[Tensor, Tensor] = _AddNorm.apply(x, update, weight, eps)  # type: ignore[no-untyped-call]
    return out


class _AddNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, update: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total = x if update is None else x + update
        inverse = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        inverse = inverse.square_().mul_(1 / total.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(total, inverse, weight)
        ctx.update_dtype = None if update is None else update.dtype
        if update is None:
            ctx.mark_non_differentiable()
        return total.view_as(total), (total * inverse).to(weight.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g_total, g_normed = grads
        total, inverse, weight = ctx.saved_tensors
        g = g_normed * weight.float()
        unit = total * inverse
        share = (g * unit).mean(-1, keepdim=True)
        g = g.addcmul_(unit, share, value=-1).mul_(inverse).add_(g_total)
        return g, None if ctx.update_dtype is None else g.to(ctx.update_dtype), None, None


def rotate(x_THW: Tensor, cos_TW: Tensor, sin_TW: Tensor) -> Tensor:
    """Turn each pair `(x[i], x[i + W/2])` by its angle; `cos` and `sin` are `[T, 1, W/2]`."""
    out: Tensor = _Rotate.apply(x_THW, cos_TW, sin_TW)  # type: ignore[no-untyped-call]
    return out


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        cos, sin = ctx.saved_tensors
        return _turned(g, cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    first, second = x.chunk(2, -1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    a, b = out.chunk(2, -1)
    torch.mul(first, cos, out=a).addcmul_(second, sin, value=-way)
    torch.mul(second, cos, out=b).addcmul_(first, sin, value=way)
    return out


def swiglu(gate_up_T2F: Tensor) -> Tensor:
    """`silu(gate) * up` of the two halves, `[T, F]`. Source: Shazeer 2020, arXiv:2002.05202."""
    out: Tensor = _SwiGlu.apply(gate_up_T2F)  # type: ignore[no-untyped-call]
    return out


class _SwiGlu(Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor]:
        (g,) = grads
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        g_gate, g_up = out.chunk(2, -1)
        torch.mul(g, torch.nn.functional.silu(gate), out=g_up)
        torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=g_gate)
        return (out,)
