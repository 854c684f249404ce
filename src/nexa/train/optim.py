"""Optimisers and learning-rate schedules: libraries' own, and four formulas."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn

from nexa.core.errors import MissingExtra
from nexa.train.spec import OptimizerSpec, SchedulerSpec

Schedule = Callable[[int], float]

# Bytes of a checkpoint for each trained number: itself in float32, and the most that the optimiser
# remembers of it. AdamW: two moments. Adafactor: a row's and a column's, which are no more numbers
# than the matrix, or a vector's whole. In 8 bits: two bytes and a scale every 256 numbers, but two
# moments in float32 of a tensor below 4,096 numbers, as an adapter's may all be.
BYTES_KEPT = {"adamw": 12, "sgd": 4, "adafactor": 8, "adamw8bit": 12}
DECAY_RATIO = (
    0.2  # of the steps of `wsd`: Hu et al. 2024, arXiv:2404.06395, find 10 % to 20 % enough
)


def optimizer(
    spec: OptimizerSpec,
    parameters: Iterable[nn.Parameter],
    names: Iterable[str] = (),
    plus_ratio: float | None = None,
) -> torch.optim.Optimizer:
    """An optimiser over float32 parameters. Vectors (norms, biases) do not decay.

    With `plus_ratio` the parameters whose `names` have `.lora_B.` in them learn so many times
    faster: LoRA+, Hayou et al. 2024, arXiv:2402.12354.

    Raises:
        MissingExtra: it is part of an extra that is not installed.
    """
    groups = _groups(spec, list(parameters), list(names), plus_ratio)
    if spec.name == "sgd":
        return torch.optim.SGD(groups, lr=spec.lr, fused=True)
    if spec.name == "adafactor":
        # Its second epsilon is the least size that a matrix counts as having, which a step is
        # relative to. B begins at zero and would stand still: at 1 each step is absolute, so that
        # `lr` means what it means to AdamW.
        return torch.optim.Adafactor(groups, lr=spec.lr, eps=(None, 1.0))
    if spec.name == "adamw8bit":
        return cast(
            torch.optim.Optimizer,
            require(spec).optim.AdamW8bit(groups, lr=spec.lr, betas=spec.betas),
        )
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, fused=True)


def require(spec: OptimizerSpec) -> Any:
    """The library outside torch that an optimiser is part of; None if there is none.

    Raises:
        MissingExtra: it is not installed.
    """
    if spec.name != "adamw8bit":
        return None
    # It looks for kernels that no optimiser uses, and tells of each that it has not.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtra(
            "optimizer.name: adamw8bit needs the extra quant",
            found=str(error),
            fix="pip install nexa-compute[quant], or set optimizer.name: adafactor, "
            "which remembers less still",
        ) from error


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the step to come; each group takes its own multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


def schedule(spec: SchedulerSpec, *, lr: float, total_steps: int) -> Schedule:
    """The learning rate of step `index` (from 0).

    Warm-up rises from `lr / warmup` to `lr`, so that no step is wasted at zero. Then `linear`
    falls by equal amounts and would reach zero one step after the last, `cosine` falls along half
    a wave, `constant` stays, `wsd` stays and falls as `linear` does over the last `decay_ratio` of
    all steps.
    """
    warmup = spec.warmup(total_steps)
    decay = _decay_steps(spec, total_steps, warmup)

    def rate(index: int) -> float:
        if index < warmup:
            return lr * (index + 1) / warmup
        done = (index - warmup) / max(1, total_steps - warmup)
        if spec.name == "linear":
            return lr * (1 - done)
        if spec.name == "cosine":
            return lr * (1 + math.cos(math.pi * done)) / 2
        if spec.name == "wsd":
            return lr * min(1.0, (total_steps - index) / (decay + 1))
        return lr

    return rate


def _decay_steps(spec: SchedulerSpec, total_steps: int, warmup: int) -> int:
    """Steps of `wsd` that fall: what warm-up leaves of them."""
    ratio = DECAY_RATIO if spec.decay_ratio is None else spec.decay_ratio
    return max(0, min(math.ceil(ratio * total_steps), total_steps - warmup))


def _groups(
    spec: OptimizerSpec,
    parameters: Sequence[nn.Parameter],
    names: Sequence[str],
    plus_ratio: float | None,
) -> list[dict[str, Any]]:
    """The parameters by how much they decay and how fast they learn, in their order."""
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, name in zip(parameters, names or [""] * len(parameters), strict=True):
        decay = spec.weight_decay if parameter.ndim >= 2 else 0.0
        factor = plus_ratio if plus_ratio and ".lora_B." in name else 1.0
        kinds.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": group, "weight_decay": decay, "factor": factor, "lr": spec.lr * factor}
        for (factor, decay), group in kinds.items()
    ]
