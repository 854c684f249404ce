"""What stands between a decoder's matrix products: elementwise formulas, and how they are run.

A formula writes its first arguments and has no graph; its backward is a formula of its own
(`functions` puts the two together). Run one after another over whole tensors, its operations would
each go through memory; so it is run on blocks of rows that stay in the processor's cache, or as
one compiled loop. Norms are computed in float32 and rounded once, into what the product takes.

    T tokens   D width   H heads   W width of a head   F width of the MLP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

Formula = Callable[..., None]

# 1 MB of float32, half a megabyte for each of two cores: what an operation writes, the next one
# finds in the second-level cache. Smaller blocks pay more for calls than they save.
BLOCK_VALUES = 1 << 18


class Kernels:
    """Runs formulas: block by block, or each compiled at its first call.

    Both give the same numbers up to rounding; one run has to keep to one of them.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
        self._programs: dict[Formula, Formula] = {}

    def run(
        self, formula: Formula, outs: Sequence[Tensor], ins: Sequence[Tensor], *constants: Any
    ) -> None:
        """`formula(*outs, *ins, *constants)`; the first dimension of `outs` and `ins` is T."""
        if self.compiled:
            if formula not in self._programs:
                self._programs[formula] = torch.compile(formula, dynamic=True)
            plain = (x.detach() for x in (*outs, *ins))  # the compiler would look for a graph
            self._programs[formula](*plain, *constants)
            return
        tokens = len(outs[0])
        values = max(x[0].numel() for x in (*outs, *ins))
        rows = tokens if outs[0].is_cuda else max(1, BLOCK_VALUES // values)
        for begin in range(0, tokens, rows):
            part = slice(begin, begin + rows)
            formula(*(x[part] for x in outs), *(x[part] for x in ins), *constants)


def add_norm(
    total: Tensor, normed: Tensor, inverse: Tensor, x: Tensor, update: Tensor, *rest: Any
) -> None:
    """`total = x + update`, float32 `[T, D]`, and its norm; `rest` as in `norm`."""
    torch.add(x, update, out=total)
    norm(normed, inverse, total, *rest)


def norm(normed: Tensor, inverse: Tensor, x: Tensor, weight_D: Tensor, eps: float) -> None:
    """`normed = x * inverse * weight` and `inverse = 1 / rms(x)`, float32 `[T, 1]`.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=inverse.dtype, out=inverse)
    inverse.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
    normed.copy_((x * inverse).mul_(weight_D))


def normed_again(normed: Tensor, x: Tensor, inverse: Tensor, weight_D: Tensor) -> None:
    """What `norm` gave, bit for bit, from the `inverse` it left."""
    normed.copy_((x * inverse).mul_(weight_D))


def norm_backward(
    grad: Tensor, g_normed: Tensor, x: Tensor, inverse: Tensor, weight_D: Tensor
) -> None:
    """`grad`, float32, by x of `norm`."""
    torch.mul(g_normed, weight_D, out=grad)
    unit = x * inverse
    share = (grad * unit).mean(-1, keepdim=True)
    grad.addcmul_(unit, share, value=-1).mul_(inverse)


def add_norm_backward(
    grad: Tensor,
    g_update: Tensor,
    normed: Tensor,
    g_total: Tensor,
    g_normed: Tensor,
    x: Tensor,
    inverse: Tensor,
    weight_D: Tensor,
) -> None:
    """`grad` by x, the same rounded to what `update` was computed in, and `normed` once more."""
    unit = x * inverse
    torch.mul(g_normed, weight_D, out=grad)
    share = (grad * unit).mean(-1, keepdim=True)
    grad.addcmul_(unit, share, value=-1).mul_(inverse).add_(g_total)
    g_update.copy_(grad)
    normed.copy_(unit.mul_(weight_D))


def swiglu(out_TF: Tensor, gate_up_T2F: Tensor) -> None:
    """`silu(gate) * up` of the two halves. Source: Shazeer 2020, arXiv:2002.05202."""
    gate, up = gate_up_T2F.chunk(2, -1)
    torch.mul(silu(gate), up, out=out_TF)


def swiglu_backward(grad_T2F: Tensor, out_TF: Tensor, g_TF: Tensor, gate_up_T2F: Tensor) -> None:
    """By gate and up, in their two halves, and what `swiglu` gave once more."""
    gate, up = gate_up_T2F.chunk(2, -1)
    g_gate, g_up = grad_T2F.chunk(2, -1)
    active = silu(gate)
    torch.mul(g_TF, active, out=g_up)
    torch.mul(active, up, out=out_TF)
    g_gate.copy_(torch.ops.aten.silu_backward(g_TF * up, gate))


def rotate(out_THW: Tensor, x_THW: Tensor, cos_T1W: Tensor, sin_T1W: Tensor, way: int) -> None:
    """Turn each pair `(x[i], x[i + W/2])` by its angle; `way` -1 turns it back."""
    first, second = x_THW.chunk(2, -1)
    a, b = out_THW.chunk(2, -1)
    torch.mul(first, cos_T1W, out=a).addcmul_(second, sin_T1W, value=-way)
    torch.mul(second, cos_T1W, out=b).addcmul_(first, sin_T1W, value=way)
