"""Rows that are kept out of the training, and their loss on the way.

Which rows is a pure function of the seed and their ids: a new row takes the place of one other at
most. They come out of the training split, so none of them is a row of the suite, and what is
chosen by their loss is not chosen by what the model is judged on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from nexa.core.errors import ConfigError
from nexa.train.batches import TokenRow, lay, split
from nexa.train.executor import Executor
from nexa.train.rows import TrainingRows
from nexa.train.spec import TrainSpec, resolve_every

LARGEST_SHARE = 0.5  # of all rows: more are not kept out of a training


def hold_out(spec: TrainSpec, data: TrainingRows) -> TrainingRows:
    """The rows without those that are only measured; all of them if nothing is.

    Raises:
        ConfigError: more are asked for than half of what there is; or none, but a choice by them.
    """
    if spec.validation is None:
        if spec.early_stopping is not None or spec.select == "best":
            raise ConfigError(
                "early stopping and the choice of the best checkpoint need validation rows",
                fix="set training.validation: {rows: 32}",
            )
        return data
    count, rows = spec.validation.rows, data.rows
    if count > LARGEST_SHARE * len(rows):
        raise ConfigError(
            "too many rows are kept out of the training for validation",
            found=f"training.validation.rows: {count} of {len(rows)} rows",
            fix=f"training.validation.rows: {max(1, len(rows) // 10)}, or more data",
        )
    order = sorted(range(len(rows)), key=lambda i: (_rank(spec.seed, rows[i].row_id), i))
    chosen = set(order[:count])
    return replace(
        data,
        rows=[row for i, row in enumerate(rows) if i not in chosen],
        validation=[row for i, row in enumerate(rows) if i in chosen],
    )


def resolve_validate_every(spec: TrainSpec, total_steps: int) -> int | None:
    """Steps between two measurements; without a number of its own, as checkpoints by default."""
    if spec.validation is None:
        return None
    return resolve_every(spec.validation.every, total_steps, spec.method)


@torch.no_grad()
def validation_loss(
    executor: Executor, rows: Sequence[TokenRow], *, micro_tokens: int, padded: bool
) -> float:
    """Nats a label token, as the model is now, without dropout."""
    nats, labels = 0.0, 0
    with executor.evaluating():
        for part in split(rows, micro_tokens=micro_tokens, padded=padded):
            loss, count = executor.forward_loss(lay(part))
            nats, labels = nats + loss.item(), labels + count
    return nats / labels


def _rank(seed: int, row_id: str) -> bytes:
    """A place in an order that has nothing to do with the data's."""
    return hashlib.sha256(f"validation/{seed}/{row_id}".encode()).digest()
