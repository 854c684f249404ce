"""The arithmetic of merging, on one tensor of every model at a time, in float32.

Every method goes through its tensors block by block, so what it needs beside them is its result
and a few megabytes: no task vector is ever whole in memory. Sums have the order of the models.

Sources: linear, Wortsman et al. 2022, arXiv:2203.05482; task arithmetic, Ilharco et al. 2022,
arXiv:2212.04089; SLERP, Shoemake 1985; TIES, Yadav et al. 2023, arXiv:2306.01708; DARE, Yu et al.
2023, arXiv:2311.03099. Where these leave a choice it is mergekit's (0.1.5), and named.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nexa.core.errors import ModelError, UsageError
from nexa.weights.merge_models.trimming import BLOCK, Trimmed

Method = Literal[
    "linear", "task_arithmetic", "slerp", "ties", "dare_linear", "dare_ties", "passthrough"
]

# Nearer to parallel or opposite than this (as a cosine), a pair is interpolated linearly: the sine
# that SLERP divides by loses its digits. A vector that is no longer than NO_LENGTH has no
# direction; it counts as orthogonal to the other. Both as in mergekit.
PARALLEL = 0.9995
NO_LENGTH = 1e-8
NO_WEIGHT = 1e-8  # a sum of weights that nothing may be divided by

NO_BASE = torch.zeros(())  # expanded, it is a base of zeros that takes no memory


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
    """What the summed task vectors are multiplied with, called lambda in the papers; of
    passthrough: what the tensor is multiplied with."""
    normalize: bool = True
    rescale: bool = True
    """Of DARE: whether what is kept is divided by the density."""
    seed: int = 0


_Run = Callable[[Sequence[Tensor], Tensor, Options, str, Tensor], None]


@dataclass(frozen=True)
class Needs:
    """What a method takes, and how it is computed.

    `numbers` are the names of its numbers in a recipe, each with its default: None where it must
    be given. `weight` and `density` have one value a model.
    """

    run: _Run
    base: bool
    """Whether it works on task vectors: the difference of each model to a base."""
    models: tuple[int, int | None]
    """The fewest and the most tensors that it takes beside that base."""
    numbers: Mapping[str, float | bool | None]


def combine(
    method: Method,
    tensors: Sequence[Tensor],
    base: Tensor | None,
    options: Options,
    *,
    name: str,
) -> Tensor:
    """Merge one tensor: equal shapes in, that shape out, in float32.

    `tensors` are the models' in order, without the base; of any floating type, for they are read
    block by block (a mapped file need not be copied). `base` counts for methods with task vectors
    only. `name` is the child's tensor; with `options.seed` it draws DARE's masks. Nothing that
    comes in is changed.

    Raises:
        UsageError: a method without its base, or with the wrong number of models or numbers.
        ModelError: tensors that cannot be combined; names the tensor.
    """
    check(method, options, models=len(tensors), base=base is not None)
    used = base if METHODS[method].base else None
    _check_tensors(name, [*tensors, *([] if used is None else [used])])
    out = torch.empty(tensors[0].shape)
    start = NO_BASE.expand(out.shape) if used is None else used
    flat = [tensor.reshape(-1) for tensor in tensors]
    METHODS[method].run(flat, start.reshape(-1), options, name, out.view(-1))
    return out


def check(method: Method, options: Options, *, models: int, base: bool) -> None:
    """Whether a method has what it needs; `models` counts the tensors without the base.

    Raises:
        UsageError: says what is missing or out of range.
    """
    needs = METHODS[method]
    fewest, most = needs.models
    if models < fewest or (most is not None and models > most):
        wanted = f"{'' if most == fewest else 'at least '}{fewest} model{'s' * (fewest != 1)}"
        beside = " beside the base" if needs.base else ""
        raise UsageError(f"{method} takes {wanted}{beside}", found=f"{models}")
    if needs.base and not base:
        raise UsageError(
            f"{method} needs the base that its models were trained from",
            fix="name it: --base-model, or base_model in a recipe",
        )
    if "weight" in needs.numbers:
        _check_weights(method, options, models)
    if "density" in needs.numbers:
        _check_densities(method, options, models)
    if not all(map(math.isfinite, (options.t, options.scale))):
        raise UsageError("t and lambda must be finite", found=f"{options.t}, {options.scale}")


def _check_weights(method: Method, options: Options, models: int) -> None:
    weights = options.weights
    if len(weights) != models or not all(map(math.isfinite, weights)):
        raise UsageError(
            f"{method} needs one weight a model: {models} finite numbers", found=f"{weights}"
        )
    # TIES sums the weights of the models that agree: some of them may well be none.
    if options.normalize and not method.endswith("ties") and abs(sum(weights)) < NO_WEIGHT:
        raise UsageError(
            f"{method} cannot normalise weights that sum to zero",
            found=f"{weights}",
            fix="normalize: false, or other weights",
        )


def _check_densities(method: Method, options: Options, models: int) -> None:
    densities = options.densities
    if len(densities) != models or not all(0 < density <= 1 for density in densities):
        raise UsageError(
            f"{method} needs one density a model: {models} numbers above 0 and at most 1",
            found=f"{densities}",
        )


def _check_tensors(name: str, tensors: Sequence[Tensor]) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) != 1:
        raise ModelError(
            f"cannot merge {name}: its shape is not the same in every model",
            found=", ".join(map(str, shapes)),
        )
    whole = [str(tensor.dtype) for tensor in tensors if not tensor.is_floating_point()]
    if whole:
        raise ModelError(
            f"cannot merge {name}: it does not hold floating-point numbers",
            found=", ".join(whole),
            fix="merge models that are not quantised",
        )


# -- sums ----------------------------------------------------------------------------------------


def coefficients(method: Method, options: Options) -> tuple[float, ...]:
    """What each tensor (of task arithmetic: each task vector) is multiplied with before the sum.

    Of linear, task_arithmetic and passthrough: methods that are nothing but a weighted sum.
    """
    if method == "passthrough":
        return (options.scale,)
    factor = options.scale if method == "task_arithmetic" else 1.0
    total = math.fsum(options.weights) if options.normalize else 1.0
    return tuple(factor * weight / total for weight in options.weights)


def _linear(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """`sum(w_i x_i)`, divided by `sum(w_i)` when normalised."""
    _sum(tensors, coefficients("linear", options), out)


def _passthrough(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """The tensor itself, or a multiple of it."""
    _sum(tensors, coefficients("passthrough", options), out)


def _sum(tensors: Sequence[Tensor], factors: Sequence[float], out: Tensor) -> None:
    for part in _blocks(out):
        block = out[part]
        torch.mul(tensors[0][part].float(), factors[0], out=block)
        for tensor, factor in zip(tensors[1:], factors[1:], strict=True):
            block.add_(tensor[part].float(), alpha=factor)


def _task_arithmetic(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """`base + lambda sum(w_i (x_i - base))`, the sum divided by `sum(w_i)` when normalised."""
    factors = coefficients("task_arithmetic", options)
    for part in _blocks(out):
        start, block = base[part].float(), out[part]
        block.zero_()
        for tensor, factor in zip(tensors, factors, strict=True):
            block.add_(tensor[part].float() - start, alpha=factor)
        block.add_(start)


def _slerp(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """From the first to the second along the arc between them; all numbers are one vector."""
    first, second = tensors
    _sum(tensors, slerp_factors(first, second, options.t), out)


def slerp_factors(first: Tensor, second: Tensor, t: float) -> tuple[float, float]:
    """What SLERP multiplies two flat vectors with: `sin((1 - t) a) / sin a` and `sin(t a) / sin a`.

    a is the angle between them; for one close to 0 or 180 degrees, the factors are `1 - t` and t.
    """
    squares, dot = [0.0, 0.0], 0.0
    for part in _blocks(first):
        x, y = first[part].float(), second[part].float()
        squares[0] += float(torch.dot(x, x))
        squares[1] += float(torch.dot(y, y))
        dot += float(torch.dot(x, y))
    lengths = [length if (length := math.sqrt(s)) > NO_LENGTH else 1.0 for s in squares]
    cosine = max(-1.0, min(1.0, dot / lengths[0] / lengths[1]))
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


# -- sparse task vectors -------------------------------------------------------------------------


def _ties(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """Task vectors trimmed to their largest numbers, then merged where their signs agree."""
    densities = options.densities
    trimmed = [Trimmed(x, base, density) for x, density in zip(tensors, densities, strict=True)]
    _agreeing(trimmed, base, options, out)


def _dare_ties(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """Task vectors thinned out at random, then merged where their signs agree."""
    _agreeing(_dropped(tensors, base, options, name), base, options, out)


def _agreeing(
    deltas: Sequence[Trimmed | Dropped], base: Tensor, options: Options, out: Tensor
) -> None:
    """`base + lambda` times the sum of those `w_i d_i` that have the elected sign.

    The elected sign is that of the larger mass, of what would raise a number and of what would
    lower it: the sign of their sum. Equal masses elect plus, as in mergekit. When normalised, the
    merged number is divided by the weights of those that took part (by 1 where they cancel each
    other out, which takes a negative weight).
    """
    for part in _blocks(out):
        pairs = zip(deltas, options.weights, strict=True)
        tasks = [delta.block(part).mul_(weight) for delta, weight in pairs]
        elected = _elected(tasks)
        merged, divisor = torch.zeros(2, len(elected))
        for task, weight in zip(tasks, options.weights, strict=True):
            agrees = torch.gt(task * elected, 0, out=torch.empty_like(task))
            merged.addcmul_(task, agrees)
            divisor.add_(agrees, alpha=weight)
        if options.normalize:
            merged.div_(divisor.add_(torch.eq(divisor, 0, out=torch.empty_like(divisor))))
        torch.add(base[part].float(), merged, alpha=options.scale, out=out[part])


def _elected(tasks: Sequence[Tensor]) -> Tensor:
    """1 where the numbers sum to at least zero, else -1."""
    total = tasks[0].clone()
    for task in tasks[1:]:
        total.add_(task)
    return torch.ge(total, 0, out=total).mul_(2).sub_(1)


def _dare_linear(
    tensors: Sequence[Tensor], base: Tensor, options: Options, name: str, out: Tensor
) -> None:
    """`base + lambda sum(w_i d_i)` of task vectors that were thinned out at random."""
    deltas = _dropped(tensors, base, options, name)
    factors = coefficients("task_arithmetic", options)
    for part in _blocks(out):
        block = out[part].zero_()
        for delta, factor in zip(deltas, factors, strict=True):
            block.add_(delta.block(part), alpha=factor)
        block.add_(base[part].float())


class Dropped:
    """A task vector of which a random share is kept, and divided by that share when rescaled.

    Blocks are asked for in order, each once: the masks come from one stream of random numbers.
    Divided by the density as in the paper, the expectation of each number stays what it was;
    mergekit 0.1.5 restores the sum of the magnitudes instead.
    """

    def __init__(
        self, tensor: Tensor, base: Tensor, density: float, rescale: bool, masks: torch.Generator
    ) -> None:
        self.tensor, self.base, self.density, self.masks = tensor, base, density, masks
        self.factor = 1 / density if rescale else 1.0

    def block(self, part: slice) -> Tensor:
        """The numbers of one part."""
        delta = self.tensor[part].float() - self.base[part].float()
        if self.density == 1:
            return delta
        kept = torch.rand(len(delta), generator=self.masks)
        return delta.mul_(torch.lt(kept, self.density, out=kept)).mul_(self.factor)


def _dropped(tensors: Sequence[Tensor], base: Tensor, options: Options, name: str) -> list[Dropped]:
    return [
        Dropped(x, base, density, options.rescale, mask_generator(options.seed, place, name))
        for place, (x, density) in enumerate(zip(tensors, options.densities, strict=True))
    ]


def mask_generator(seed: int, place: int, name: str) -> torch.Generator:
    """What draws the mask of one model's tensor: kept is where a uniform number is below density.

    Each model and tensor has a stream of its own, so threads and their order change nothing.
    """
    digest = hashlib.sha256(f"{seed}/{place}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def _blocks(flat: Tensor) -> Iterator[slice]:
    """The parts of a flat tensor, in order."""
    return (slice(start, min(start + BLOCK, len(flat))) for start in range(0, len(flat), BLOCK))


_TASKS = {"weight": None, "normalize": False, "lambda": 1.0}

METHODS: Mapping[Method, Needs] = {
    "linear": Needs(_linear, False, (1, None), {"weight": None, "normalize": True}),
    "task_arithmetic": Needs(_task_arithmetic, True, (1, None), _TASKS),
    "slerp": Needs(_slerp, False, (2, 2), {"t": None}),
    "ties": Needs(_ties, True, (1, None), {**_TASKS, "normalize": True, "density": 1.0}),
    "dare_linear": Needs(
        _dare_linear, True, (1, None), {**_TASKS, "density": 1.0, "rescale": True}
    ),
    "dare_ties": Needs(_dare_ties, True, (1, None), {**_TASKS, "density": 1.0, "rescale": True}),
    "passthrough": Needs(_passthrough, False, (1, 1), {"scale": 1.0}),
}
