"""The arithmetic of merging, on one tensor of every model at a time, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Method = Literal[
    "linear", "task_arithmetic", "slerp", "ties", "dare_linear", "dare_ties", "passthrough"
]


@dataclass(frozen=True)
class Options:
    """The numbers of a merge, resolved for one tensor.

    `weights` and `densities` have one number a model; the rest holds for all of them.
    """

    weights: tuple[float, ...] = ()
    densities: tuple[float, ...] = ()
    t: float = 0.5
    """Of SLERP: 0 is the first model (the base, where one is named), 1 the other."""
    scale: float = 1.0
    """What the summed task vectors are multiplied with; called lambda in the papers."""
    normalize: bool = True
    rescale: bool = True
    """Of DARE: whether what is kept is divided by the density."""
    seed: int = 0


def combine(
    method: Method,
    tensors: Sequence[Tensor],
    base: Tensor | None,
    options: Options,
    *,
    name: str,
) -> Tensor:
    """Merge one tensor: float32, equal shapes in and that shape out.

    `name` is the child's tensor; with `options.seed` it draws DARE's masks.
    """
    raise NotImplementedError
