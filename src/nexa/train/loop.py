"""The training loop: what happens at every step, on one page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from nexa.train import guards, optim
from nexa.train.accumulate import Accumulation
from nexa.train.batches import Step
from nexa.train.executor import Executor


@dataclass(frozen=True)
class StepRecord:
    """What one optimiser step was."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float  # nats a label token, before the update
    lr: float
    tokens: int
    label_tokens: int
    grad_norm: float  # before clipping
    validation_loss: float | None = None  # nats a label token, after the update, if measured
    rolled_back: int = 0  # how often the run had gone back to an earlier step before this one
    seconds: float = 0.0  # on this machine: never in what is sealed

    def told(self) -> dict[str, Any]:
        """What is written of it for good: equal runs tell the same."""
        whole = asdict(self)
        del whole["seconds"]
        for name in ("validation_loss", "rolled_back"):
            if not whole[name]:
                del whole[name]
        return whole


def train(
    executor: Executor,
    steps: Iterable[Step],
    optimizer: torch.optim.Optimizer,
    schedule: optim.Schedule,
    *,
    accumulate: Accumulation,
    max_grad_norm: float,
    seed: int,
) -> Iterator[StepRecord]:
    """Walk through `steps`; yields a record after each.

    The loss is the sum over all label tokens of the step divided by their number, however the
    step is cut into batches: 8 rows at once and 8 times 1 row are the same step.

    Raises:
        Astray: the loss or its gradient is no number; the weights are those before the step.
        TrainingError: another guard found the step worth nothing; as above.
    """
    for step in steps:
        torch.manual_seed(_step_seed(seed, step.index))  # dropout, if any: no replay on resume
        loss = accumulate.run(executor, step) / step.label_tokens
        norm = clip_grad_norm_(executor.adapters(), max_grad_norm or float("inf")).item()
        guards.check_step(step, loss=loss, grad_norm=norm)
        lr = schedule(step.index)
        optim.set_rate(optimizer, lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield StepRecord(
            step.index + 1, step.epoch + 1, loss, lr, step.tokens, step.label_tokens, norm
        )


def _step_seed(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big") >> 1
