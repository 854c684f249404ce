"""Optimisers and learning-rate schedules: torch's own, and two formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from nexa.train.spec import OptimizerSpec, SchedulerSpec

Schedule = Callable[[int], float]


def optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser over float32 parameters. Vectors (norms, biases) do not decay."""
    every = list(parameters)
    groups = [
        {"params": [p for p in every if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.name == "sgd":
        return torch.optim.SGD(groups, lr=spec.lr, fused=True)
    return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, fused=True)


def schedule(spec: SchedulerSpec, *, lr: float, total_steps: int) -> Schedule:
    """The learning rate of step `index` (from 0).

    Warm-up rises from `lr / warmup` to `lr`, so that no step is wasted at zero. Then `linear`
    falls by equal amounts and would reach zero one step after the last, `cosine` falls along half
    a wave, `constant` stays.
    """
    warmup = spec.warmup(total_steps)

    def rate(index: int) -> float:
        if index < warmup:
            return lr * (index + 1) / warmup
        done = (index - warmup) / max(1, total_steps - warmup)
        if spec.name == "linear":
            return lr * (1 - done)
        if spec.name == "cosine":
            return lr * (1 + math.cos(math.pi * done)) / 2
        return lr

    return rate
