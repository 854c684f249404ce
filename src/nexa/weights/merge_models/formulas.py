"""The formulas of merging once more, as the papers write them: what a proof compares with.

In float64, whole tensors at a time, sorted where the merge counts, one draw of random numbers
where it draws in blocks. Nothing here is shared with `methods` but the random numbers' seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from nexa.weights.merge_models.methods import (
    NO_LENGTH,
    PARALLEL,
    Method,
    Options,
    mask_generator,
)

# What float32 may lose in a sum of a few terms, as a share of the terms' magnitudes.
FLOAT32_SHARE = 2.0**-20
# A vote of signs that is closer than this may fall the other way in float32.
VOTE_SHARE = 2.0**-18
# The angle between two tensors is a sum over all their numbers.
ANGLE_SHARE = 2.0**-16
DRAWN = ("dare_linear", "dare_ties")


@dataclass(frozen=True)
class Expected:
    """Numbers in float64, and how far float32 may be from each; infinitely far: not known."""

    values: Tensor
    slack: Tensor

    def holds(self, stored: Tensor) -> bool:
        """Whether numbers are these, rounded once to the type that they are stored in."""
        low, high = (
            bound.float().to(stored.dtype).double()
            for bound in (self.values - self.slack, self.values + self.slack)
        )
        found = stored.double()
        return bool(((low <= found) & (found <= high)).all())


@dataclass(frozen=True)
class Parts:
    """What one tensor is made of: the models' tensors, the base's, and which rows are wanted.

    None stands for all rows. Of a method that draws random numbers they must be the first.
    """

    name: str
    tensors: Sequence[Tensor]
    base: Tensor | None
    options: Options
    rows: Tensor | None

    @property
    def all(self) -> Sequence[Tensor]:
        """Whatever goes in; the base last."""
        return [*self.tensors, *([] if self.base is None else [self.base])]

    def wanted(self, tensor: Tensor) -> Tensor:
        """The wanted rows of a tensor."""
        return tensor if self.rows is None else tensor.index_select(0, self.rows)

    @property
    def start(self) -> Tensor:
        """The base's rows; a method on task vectors has one."""
        return self.wanted(cast(Tensor, self.base)).double()

    def deltas(self) -> Iterator[Tensor]:
        """The whole task vectors one by one, in float32 as they are defined."""
        for tensor in self.tensors:
            yield tensor.to(torch.float32, copy=True).sub_(cast(Tensor, self.base))


def expected(method: Method, parts: Parts) -> Expected:
    """What the wanted rows of a tensor are to be."""
    return FORMULAS[method](parts)


def _linear(parts: Parts) -> Expected:
    weights = parts.options.weights
    total = sum(weights) if parts.options.normalize else 1.0
    return _weighted(parts, [weight / total for weight in weights])


def _passthrough(parts: Parts) -> Expected:
    return _weighted(parts, [parts.options.scale])


def _weighted(parts: Parts, factors: Sequence[float]) -> Expected:
    terms = [
        factor * parts.wanted(tensor).double()
        for factor, tensor in zip(factors, parts.tensors, strict=True)
    ]
    return Expected(_sum(terms), FLOAT32_SHARE * _mass(terms))


def _task_arithmetic(parts: Parts) -> Expected:
    start = parts.start
    return _onto(parts, [parts.wanted(tensor).double() - start for tensor in parts.tensors])


def _slerp(parts: Parts) -> Expected:
    first, second = (tensor.reshape(-1) for tensor in parts.tensors)
    lengths = [_length(first), _length(second)]
    cosine = _dot(first, second) / math.prod(x if x > NO_LENGTH else 1.0 for x in lengths)
    t = parts.options.t
    if abs(cosine) > PARALLEL:
        factors = [1 - t, t]
    else:
        angle = math.acos(cosine)
        factors = [
            math.sin((1 - t) * angle) / math.sin(angle),
            math.sin(t * angle) / math.sin(angle),
        ]
    found = _weighted(parts, factors)
    if abs(abs(cosine) - PARALLEL) < ANGLE_SHARE:  # taken either way in float32
        return Expected(found.values, torch.full_like(found.slack, math.inf))
    return Expected(found.values, found.slack * ANGLE_SHARE / FLOAT32_SHARE)


def _ties(parts: Parts) -> Expected:
    return _elected(parts, _trimmed(parts))


def _dare_ties(parts: Parts) -> Expected:
    return _elected(parts, _dropped(parts))


def _dare_linear(parts: Parts) -> Expected:
    return _onto(parts, [delta.double() for delta in _dropped(parts)])


FORMULAS: Mapping[Method, Callable[[Parts], Expected]] = {
    "linear": _linear,
    "passthrough": _passthrough,
    "task_arithmetic": _task_arithmetic,
    "slerp": _slerp,
    "ties": _ties,
    "dare_linear": _dare_linear,
    "dare_ties": _dare_ties,
}


# -- task vectors --------------------------------------------------------------------------------


def _onto(parts: Parts, deltas: Sequence[Tensor]) -> Expected:
    """`base + lambda sum(w_i d_i)`, over `sum(w_i)` when normalised."""
    o, start = parts.options, parts.start
    factor = o.scale / (sum(o.weights) if o.normalize else 1.0)
    terms = [factor * w * delta for w, delta in zip(o.weights, deltas, strict=True)]
    # A delta is a difference that float32 has rounded already.
    lost = _mass([start, *terms]) + abs(factor) * sum(map(abs, o.weights)) * start.abs()
    return Expected(start + _sum(terms), FLOAT32_SHARE * lost)


def _trimmed(parts: Parts) -> list[Tensor]:
    """The wanted rows of the task vectors, each with its largest numbers only."""
    found = []
    for delta, density in zip(parts.deltas(), parts.options.densities, strict=True):
        rows = parts.wanted(delta)
        if density < 1:
            threshold, equals = _threshold(delta, density)
            first = ((delta == threshold) | (delta == -threshold)).view(-1).nonzero()[:equals, 0]
            also = torch.zeros(delta.numel(), dtype=torch.bool)
            also[first] = True
            rows = rows * ((rows.abs() > threshold) | parts.wanted(also.view_as(delta)))
        found.append(rows)
    return found


def _threshold(delta: Tensor, density: float) -> tuple[float, int]:
    """The smallest magnitude that is kept, and how many of exactly this magnitude are."""
    magnitudes = delta.abs().view(-1).numpy()
    count = max(1, int(density * len(magnitudes)))
    magnitudes.partition(len(magnitudes) - count)
    kept = magnitudes[len(magnitudes) - count :]
    return float(kept[0]), count - int((kept > kept[0]).sum())


def _dropped(parts: Parts) -> list[Tensor]:
    """The wanted rows (the first) of the task vectors, thinned out at random."""
    found = []
    o = parts.options
    for place, (tensor, density) in enumerate(zip(parts.tensors, o.densities, strict=True)):
        delta = parts.wanted(tensor).float() - parts.start.float()
        if density < 1:
            drawn = torch.rand(delta.numel(), generator=mask_generator(o.seed, place, parts.name))
            delta = delta * (drawn < density).view_as(delta)
            delta = delta / density if o.rescale else delta
        found.append(delta)
    return found


def _elected(parts: Parts, deltas: Sequence[Tensor]) -> Expected:
    """`base + lambda` times the sum of what has the sign of the sum, over its weights."""
    o, start = parts.options, parts.start
    terms = [w * delta.double() for w, delta in zip(o.weights, deltas, strict=True)]
    total, mass = _sum(terms), _mass(terms)
    sign = torch.where(total >= 0, 1.0, -1.0)
    agreeing = [torch.where(term * sign > 0, term, 0.0) for term in terms]
    merged = _sum(agreeing)
    lost, cancelled = mass, torch.zeros_like(mass)
    if o.normalize:
        shares = [w * (term != 0).double() for w, term in zip(o.weights, agreeing, strict=True)]
        divisor = torch.where(_mass(shares) == 0, 1.0, _sum(shares))
        cancelled = _mass(shares) / divisor.abs()
        merged, lost = merged / divisor, mass / divisor.abs() * (1 + cancelled)
    slack = FLOAT32_SHARE * (start.abs() + abs(o.scale) * lost)
    slack[total.abs() <= VOTE_SHARE * mass] = math.inf
    slack[cancelled * VOTE_SHARE > 1] = math.inf
    slack[mass == 0] = 0.0
    return Expected(start + o.scale * merged, slack)


# -- sums ----------------------------------------------------------------------------------------


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)


def _mass(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).abs().sum(0)


def _length(flat: Tensor) -> float:
    return math.sqrt(_dot(flat, flat))


def _dot(x: Tensor, y: Tensor) -> float:
    pieces = zip(x.split(1 << 20), y.split(1 << 20), strict=True)
    return sum(float(torch.dot(a.double(), b.double())) for a, b in pieces)
