"""Several projections of one input as one product, each with an adapter of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class AdaptedLinear(nn.Module):
    """`y = x [W_1; W_2; ...]^T + bias`, and for every part that carries an adapter `s x A^T B^T`.

    `weight` is `[out, in + ranks]`: beside the frozen weights it has `rank` columns for each
    adapted part, which hold `s B` in that part's rows and zeros in the others'. One product over
    `[x | x A^T]` then adds all updates in the float32 accumulator and rounds once; an update added
    to an already rounded product is lost where it is below half a unit in the last place.

    The weights exist once. `refresh` writes the adapters' present values into their columns.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None) -> None:
        super().__init__()
        self.sizes = [len(weight) for weight in weights]
        self.width = weights[0].shape[1]
        self.register_buffer("weight", torch.cat(list(weights)), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.weight: Tensor
        self.bias: Tensor | None
        self.scale = 0.0
        self.pairs: list[tuple[int, nn.Parameter, nn.Parameter]] = []  # part, A, B
        self._low: Tensor | None = None  # A of all adapted parts, [ranks, in], compute dtype

    def adapt(self, pairs: Sequence[tuple[int, nn.Parameter, nn.Parameter]], scale: float) -> None:
        """Carry adapters: (part, A `[r, in]`, B `[out of the part, r]`), float32, scaled by `s`."""
        self.pairs, self.scale = list(pairs), scale
        ranks = sum(len(a) for _, a, _ in pairs)
        weight = self.weight.new_zeros(len(self.weight), self.width + ranks)
        weight[:, : self.width] = self.weight[:, : self.width]
        self.weight = weight
        self.refresh()

    def release(self) -> None:
        """Carry none again."""
        self.pairs, self._low = [], None
        self.weight = self.weight[:, : self.width].contiguous()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over what the optimiser did to A and B."""
        if not self.pairs:
            return
        self._low = torch.cat([a.detach().to(self.weight.dtype) for _, a, _ in self.pairs])
        column = self.width
        for rows, (_, _, b) in zip(self._rows(), self.pairs, strict=True):
            self.weight[rows, column : column + b.shape[1]] = b.detach() * self.scale
            column += b.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """`[T, in]` -> `[T, out]`."""
        if not self.pairs:
            return nn.functional.linear(x, self.weight, self.bias)
        flat = [tensor for _, a, b in self.pairs for tensor in (a, b)]
        out: Tensor = _AdaptedProduct.apply(x, self, *flat)  # type: ignore[no-untyped-call]
        return out

    def _rows(self) -> list[slice]:
        """The rows of `weight` that each adapted part owns."""
        begins = [sum(self.sizes[:part]) for part, _, _ in self.pairs]
        parts = (part for part, _, _ in self.pairs)
        return [slice(b, b + self.sizes[p]) for b, p in zip(begins, parts, strict=True)]


class _AdaptedProduct(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear, *_pairs: Tensor) -> Tensor:
        weight, low = layer.weight, layer._low
        wide = x.new_empty(len(x), weight.shape[1])
        wide[:, : layer.width] = x
        torch.mm(x, low.T, out=wide[:, layer.width :])
        ctx.save_for_backward(wide, weight, low)
        ctx.layer = layer
        if layer.bias is None:
            return torch.mm(wide, weight.T)
        return torch.addmm(layer.bias, wide, weight.T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        wide, weight, low = ctx.saved_tensors
        layer: AdaptedLinear = ctx.layer
        width = layer.width
        g_low = g.new_empty(len(g), len(low))
        grads_b = []
        column = 0
        for rows, (_, _, b) in zip(layer._rows(), layer.pairs, strict=True):
            columns = slice(width + column, width + column + b.shape[1])
            torch.mm(g[:, rows], weight[rows, columns], out=g_low[:, column : column + b.shape[1]])
            grads_b.append(torch.mm(g[:, rows].T, wide[:, columns]).float().mul_(layer.scale))
            column += b.shape[1]
        g_a = torch.mm(g_low.T, wide[:, :width]).float()
        grads_a = g_a.split([len(a) for _, a, _ in layer.pairs])
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = torch.mm(g, weight[:, :width]).addmm_(g_low, low)
        pairs = [grad for pair in zip(grads_a, grads_b, strict=True) for grad in pair]
        return g_x, None, *pairs
