"""Several projections of one input as one product, each with an adapter of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Pair:
    """An adapter on one part: A `[r, in]` and B `[out of the part, r]`, float32, scaled by `s`."""

    a: nn.Parameter
    b: nn.Parameter
    scale: float


class AdaptedLinear(nn.Module):
    """`y = x [W_1; W_2; ...]^T + bias`, and for every part that carries an adapter `s x A^T B^T`.

    `weight` is `[out, in + ranks]`: beside the frozen weights it has `rank` columns for each
    adapted part, which hold `s B` in that part's rows and zeros in the others'. One product over
    `[x | x A^T]` then adds all updates in the float32 accumulator and rounds once; an update added
    to an already rounded product is lost where it is below half a unit in the last place.

    The weights exist once, in the memory that is taken here; `parts` says where each goes.
    `ranks` has the rank of each part's adapter, 0 for none. `carry` puts the adapters' parameters
    in, and `refresh` writes their present values into the columns.

        T tokens   r ranks of all parts together
    """

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        *,
        bias: bool,
        ranks: Sequence[int] = (),
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.sizes, self.width = tuple(sizes), width
        self.ranks = tuple(ranks) or (0,) * len(self.sizes)
        self.pairs: dict[int, Pair] = {}  # by part
        out, low = sum(self.sizes), sum(self.ranks)
        weight = torch.empty(out, width + low, dtype=dtype, device=device)
        weight[:, width:] = 0
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("low", weight.new_zeros(low, width), persistent=False)  # all A
        self.register_buffer("bias", weight.new_empty(out) if bias else None, persistent=False)
        self.weight: Tensor
        self.low: Tensor
        self.bias: Tensor | None

    def parts(self) -> list[tuple[Tensor, Tensor | None]]:
        """The weight `[out, in]` and the bias of each part, as views to fill and to read."""
        return [
            (self.weight[rows, : self.width], None if self.bias is None else self.bias[rows])
            for rows in self._rows()
        ]

    def carry(self, pairs: Mapping[int, Pair]) -> None:
        """Take over the adapters of some parts, by their place; ranks as they were foreseen."""
        self.pairs = dict(pairs)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over what the optimiser did to A and B."""
        for part, pair in self.pairs.items():
            columns = self._columns(part)
            self.low[columns] = pair.a
            place = slice(self.width + columns.start, self.width + columns.stop)
            self.weight[self._rows()[part], place] = pair.b * pair.scale

    def forward(self, x_TI: Tensor) -> Tensor:
        """`[T, in]` -> `[T, out]`, without a graph."""
        wide = self.wide(len(x_TI))
        wide[:, : self.width] = x_TI
        return self.product(wide)

    def wide(self, tokens: int) -> Tensor:
        """Room for the input and its low-rank projections, `[T, in + r]`."""
        return self.weight.new_empty(tokens, self.weight.shape[1])

    def product(self, wide: Tensor) -> Tensor:
        """`[T, out]`; the first `in` columns of `wide` are x, the others are written here."""
        if len(self.low):
            torch.mm(wide[:, : self.width], self.low.T, out=wide[:, self.width :])
        if self.bias is None:
            return torch.mm(wide, self.weight.T)
        return torch.addmm(self.bias, wide, self.weight.T)

    def parameters_in_order(self) -> list[nn.Parameter]:
        """A and B of each adapted part: the order of `pair_gradients`."""
        return [p for _, pair in sorted(self.pairs.items()) for p in (pair.a, pair.b)]

    def low_gradient(self, g_TO: Tensor) -> Tensor:
        """The gradient by `x A^T` of all parts, `[T, r]`."""
        g_low = g_TO.new_empty(len(g_TO), len(self.low))
        for part, rows in self._adapted():
            columns = self._columns(part)
            scaled_b = self.weight[rows, self.width :][:, columns]
            torch.mm(g_TO[:, rows], scaled_b, out=g_low[:, columns])
        return g_low

    def input_gradient(self, g_TO: Tensor, g_low_Tr: Tensor) -> Tensor:
        """The gradient by x, `[T, in]`."""
        g_x = torch.mm(g_TO, self.weight[:, : self.width])
        return g_x.addmm_(g_low_Tr, self.low) if self.pairs else g_x

    def pair_gradients(
        self, g_TO: Tensor, low_Tr: Tensor, g_low_Tr: Tensor, x_TI: Tensor
    ) -> list[Tensor]:
        """The gradients by A and B of each adapted part, float32, in `parameters_in_order`.

        `low_Tr` is `x A^T`: the last columns of `wide`.
        """
        if not self.pairs:
            return []
        by_a = torch.mm(g_low_Tr.T, x_TI).float().split(self.ranks)
        both = []
        for part, rows in self._adapted():
            by_b = torch.mm(g_TO[:, rows].T, low_Tr[:, self._columns(part)])
            both += [by_a[part], by_b.float().mul_(self.pairs[part].scale)]
        return both

    def _adapted(self) -> list[tuple[int, slice]]:
        """The parts that carry an adapter, each with its rows."""
        rows = self._rows()
        return [(part, rows[part]) for part in sorted(self.pairs)]

    def _rows(self) -> list[slice]:
        """The rows of `weight` that each part owns."""
        ends = [sum(self.sizes[: part + 1]) for part in range(len(self.sizes))]
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    def _columns(self, part: int) -> slice:
        """The columns behind the frozen weights that the adapter of a part owns."""
        begin = sum(self.ranks[:part])
        return slice(begin, begin + self.ranks[part])
