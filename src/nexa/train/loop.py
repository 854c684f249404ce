"""The training loop: what happens at every step, on one page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from nexa.train import guards
from nexa.train.batches import Step
from nexa.train.executor import Executor
from nexa.train.optim import Schedule


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


def train(
    executor: Executor,
    steps: Iterable[Step],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    max_grad_norm: float,
    seed: int,
) -> Iterator[StepRecord]:
    """Walk through `steps`; yields a record after each.

    The loss is the sum over all label tokens of the step divided by their number, however the
    step is cut into batches: 8 rows at once and 8 times 1 row are the same step.

    Raises:
        TrainingError: a guard found the step worth nothing; the weights are those before it.
    """
    for step in steps:
        torch.manual_seed(_step_seed(seed, step.index))  # dropout, if any: no replay on resume
        loss_sum = 0.0
        for batch in step.batches:
            loss, _ = executor.forward_loss(batch)
            (loss / step.label_tokens).backward()
            loss_sum += loss.item()
        loss_mean = loss_sum / step.label_tokens
        norm = clip_grad_norm_(executor.adapters(), max_grad_norm or float("inf")).item()
        guards.check_step(step, loss=loss_mean, grad_norm=norm)
        lr = schedule(step.index)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield StepRecord(
            step.index + 1, step.epoch + 1, loss_mean, lr, step.tokens, step.label_tokens, norm
        )


def _step_seed(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big") >> 1
