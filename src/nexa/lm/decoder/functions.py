"""The decoder's autograd functions: each a matrix product with what comes before it.

A product's input costs little to compute and much to keep, so it is not kept: the backward pass
computes it again, bit for bit, from what has to be there anyway (the residual stream of a norm,
gate and up of the MLP). What an adapter's gradient needs besides is `x A^T`, a few columns.

    T tokens   D width   O output width   H heads   K key heads   W width of a head
    F width of the MLP
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from nexa.lm.decoder import kernels
from nexa.lm.decoder.kernels import Kernels
from nexa.lm.decoder.linear import AdaptedLinear


class Norm(NamedTuple):
    """A root-mean-square norm: its weight in float32, and what is added under the root."""

    weight: Tensor
    eps: float


def norm_product(
    run: Kernels, x_TD: Tensor, update_TD: Tensor | None, norm: Norm, layer: AdaptedLinear
) -> tuple[Tensor, Tensor]:
    """`x + update` float32 `[T, D]`, and the product of its norm, `[T, O]`.

    The residual stream is float32, so that no update of it is ever rounded away.
    """
    out: tuple[Tensor, Tensor] = _NormProduct.apply(  # type: ignore[no-untyped-call]
        x_TD, update_TD, run, norm, layer, *layer.parameters_in_order()
    )
    return out


def product(x_TD: Tensor, layer: AdaptedLinear) -> Tensor:
    """`[T, O]`."""
    out: Tensor = _Product.apply(x_TD, layer, *layer.parameters_in_order())  # type: ignore[no-untyped-call]
    return out


def swiglu_product(run: Kernels, gate_up_T2F: Tensor, layer: AdaptedLinear) -> Tensor:
    """The product of `silu(gate) * up`, `[T, O]`."""
    out: Tensor = _SwigluProduct.apply(  # type: ignore[no-untyped-call]
        gate_up_T2F, run, layer, *layer.parameters_in_order()
    )
    return out


def final_norm(run: Kernels, x_TD: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    """The norm of the residual stream in `dtype`, what the output head takes."""
    out: Tensor = _FinalNorm.apply(x_TD, run, norm, dtype)  # type: ignore[no-untyped-call]
    return out


def split_heads(
    run: Kernels,
    qkv: Tensor,
    sizes: tuple[int, int],
    angles: tuple[Tensor, Tensor],
    norm: Norm | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Query `[T, H, W]`, key and value `[T, K, W]` of a product `[T, (H + 2 K) W]`.

    Query and key are turned by `angles`, cos and sin `[T, 1, W / 2]`; before that each head goes
    through `norm`, if there is one, whose weight is `[H + K, W]`. `sizes` is (H, K).
    """
    out: tuple[Tensor, Tensor, Tensor] = _SplitHeads.apply(qkv, run, sizes, *angles, norm)  # type: ignore[no-untyped-call]
    return out


class _NormProduct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        update: Tensor | None,
        run: Kernels,
        norm: Norm,
        layer: AdaptedLinear,
        *_pairs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        wide, inverse = layer.wide(len(x)), x.new_empty(len(x), 1, dtype=torch.float32)
        normed = wide[:, : layer.width]
        if update is None:
            total = x
            run.run(kernels.norm, (normed, inverse), (x,), *norm)
        else:
            total = torch.empty_like(x)
            run.run(kernels.add_norm, (total, normed, inverse), (x, update), *norm)
        out = layer.product(wide)
        low = wide[:, layer.width :].contiguous()
        ctx.save_for_backward(total, inverse, low, layer.weight)
        ctx.run, ctx.norm, ctx.layer = run, norm, layer
        ctx.update_dtype = x.dtype if update is None else update.dtype
        return total.view_as(total), out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g_total, g_out = grads
        total, inverse, low, _ = ctx.saved_tensors
        run, norm, layer = ctx.run, ctx.norm, ctx.layer
        normed = layer.weight.new_empty(total.shape)
        g_low = layer.low_gradient(g_out)
        grad = g_update = None
        if any(ctx.needs_input_grad[:2]):
            grad = torch.empty_like(total)
            g_update = torch.empty_like(total, dtype=ctx.update_dtype)
            ins = (g_total, layer.input_gradient(g_out, g_low), total, inverse)
            run.run(kernels.add_norm_backward, (grad, g_update, normed), ins, norm.weight)
        else:  # nothing below this layer is trained
            run.run(kernels.normed_again, (normed,), (total, inverse), norm.weight)
        by_pairs = layer.pair_gradients(g_out, low, g_low, normed)
        return grad, g_update, None, None, None, *by_pairs


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear, *_pairs: Tensor) -> Tensor:
        wide = layer.wide(len(x))
        wide[:, : layer.width] = x
        out = layer.product(wide)
        ctx.save_for_backward(wide, layer.weight)
        ctx.layer = layer
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_out,) = grads
        wide, _ = ctx.saved_tensors
        layer = ctx.layer
        x, low = wide[:, : layer.width], wide[:, layer.width :]
        g_low = layer.low_gradient(g_out)
        g_x = layer.input_gradient(g_out, g_low) if ctx.needs_input_grad[0] else None
        return g_x, None, *layer.pair_gradients(g_out, low, g_low, x)


class _SwigluProduct(Function):
    @staticmethod
    def forward(
        ctx: Any, gate_up: Tensor, run: Kernels, layer: AdaptedLinear, *_pairs: Tensor
    ) -> Tensor:
        wide = layer.wide(len(gate_up))
        run.run(kernels.swiglu, (wide[:, : layer.width],), (gate_up,))
        out = layer.product(wide)
        ctx.save_for_backward(gate_up, wide[:, layer.width :].contiguous(), layer.weight)
        ctx.run, ctx.layer = run, layer
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g_out,) = grads
        gate_up, low, _ = ctx.saved_tensors
        run, layer = ctx.run, ctx.layer
        g_low = layer.low_gradient(g_out)
        g_x = layer.input_gradient(g_out, g_low)
        grad, x = torch.empty_like(gate_up), torch.empty_like(g_x)
        run.run(kernels.swiglu_backward, (grad, x), (g_x, gate_up))
        return grad, None, None, *layer.pair_gradients(g_out, low, g_low, x)


class _FinalNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Kernels, norm: Norm, dtype: torch.dtype) -> Tensor:
        normed, inverse = torch.empty_like(x, dtype=dtype), x.new_empty(len(x), 1)
        run.run(kernels.norm, (normed, inverse), (x,), *norm)
        ctx.save_for_backward(x, inverse)
        ctx.run, ctx.norm = run, norm
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse = ctx.saved_tensors
        grad = torch.empty_like(x)
        ctx.run.run(kernels.norm_backward, (grad,), (grads[0], x, inverse), ctx.norm.weight)
        return grad, None, None, None


class _SplitHeads(Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        run: Kernels,
        sizes: tuple[int, int],
        cos: Tensor,
        sin: Tensor,
        norm: Norm | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads, key_heads = sizes
        every = qkv.view(len(qkv), heads + 2 * key_heads, -1)
        turned = every[:, : heads + key_heads]
        ctx.run, ctx.sizes, ctx.norm = run, sizes, norm
        kept = [cos, sin]
        if norm is not None:
            plain, turned = turned, torch.empty_like(turned)
            inverse = plain.new_empty(*plain.shape[:-1], 1, dtype=torch.float32)
            run.run(kernels.norm, (turned, inverse), (plain,), *norm)
            kept += [plain, inverse]
        ctx.save_for_backward(*kept)
        query, key = (qkv.new_empty(len(qkv), n, every.shape[-1]) for n in sizes)
        run.run(kernels.rotate, (query,), (turned[:, :heads], cos, sin), 1)
        run.run(kernels.rotate, (key,), (turned[:, heads:], cos, sin), 1)
        return query, key, every[:, heads + key_heads :].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g_query, g_key, g_value = grads
        cos, sin, *normed = ctx.saved_tensors
        (heads, key_heads), run = ctx.sizes, ctx.run
        grad = g_value.new_empty(len(g_value), heads + 2 * key_heads, g_value.shape[-1])
        run.run(kernels.rotate, (grad[:, :heads],), (g_query, cos, sin), -1)
        turned = grad[:, : heads + key_heads]
        run.run(kernels.rotate, (turned[:, heads:],), (g_key, cos, sin), -1)
        if ctx.norm is not None:
            exact = torch.empty_like(turned, dtype=torch.float32)
            run.run(kernels.norm_backward, (exact,), (turned, *normed), ctx.norm.weight)
            turned.copy_(exact)
        grad[:, heads + key_heads :] = g_value
        return grad.flatten(1), None, None, None, None, None
