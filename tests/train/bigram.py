"""The smallest executor there is, and trainings on it that take no model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nexa.lm.resolve import ModelFiles
from nexa.train.batches import Batch
from nexa.train.executor import Way
from nexa.train.keeper import Keeper
from nexa.train.rows import TrainingRows
from nexa.train.spec import OptimizerSpec, Resolved, SchedulerSpec, TrainSpec
from nexa.train.stopping import Clock, Watch
from nexa.train.under_way import UnderWay
from nexa.train.validation import hold_out, resolve_validate_every
from tests.support.tiny import tiny_model
from tests.train.sample import random_rows

RESOLVED: dict[str, Any] = {
    **dict.fromkeys(("allocator", "executor_reason", "layout_reason", "head_reason"), ""),
    **{"executor": "generic", "layout": "flat", "head": "plain logits", "precision": "float32"},
    **{"micro_tokens": 4096, "max_length": 0, "threads": 1, "warmup_steps": 0},
    **{"rows_truncated": 0, "rows_without_label": 0},
}


class Bigram:
    """The next token by the last one alone. Its loss is no number once the table is too large."""

    def __init__(self, largest: float = math.inf) -> None:
        self.table = nn.Parameter(torch.zeros(300, 300))  # of a token after another
        self.largest = largest
        self.checkpointing = False
        self.way = Way("generic", "", "flat", "", "plain logits", "")
        self.config: Mapping[str, Any] = tiny_model().config.to_dict()

    def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
        logits = self.table.T[batch.input_ids[batch.label_positions]]
        if self.table.norm().item() > self.largest:
            logits = logits * math.nan
        return cross_entropy(logits, batch.targets, reduction="sum"), len(batch.targets)

    def adapters(self) -> list[nn.Parameter]:
        return [self.table]

    def names(self) -> list[str]:
        return ["table"]

    def state(self) -> dict[str, Tensor]:
        return {"table": self.table.detach().clone()}

    def evaluating(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def logits(self, ids: Sequence[int]) -> Tensor:
        return self.table.T[torch.tensor(ids)].detach()


def under_way(
    base: ModelFiles,
    folder: Path | None,
    *,
    steps: int,
    lr: float = 1.0,
    largest: float = math.inf,
    clock: Clock | None = None,
    rows: int = 12,
    **changes: Any,
) -> UnderWay:
    """A training of a bigram table by plain gradient descent, four rows a step."""
    settings: dict[str, Any] = {
        "method": "full",
        "optimizer": OptimizerSpec("sgd", lr=lr, max_grad_norm=0.0),
        "scheduler": SchedulerSpec("constant"),
        "max_steps": steps,
        "batch_size": 4,
        "run_state": folder,
        "checkpoint_every": 2,
    }
    spec = TrainSpec(base, **{**settings, **changes})
    data = hold_out(spec, TrainingRows(random_rows(rows), 0, 0, 0, "ab"))
    resolved = Resolved(
        **RESOLVED,
        rows=len(data.rows),
        total_steps=steps,
        steps_per_epoch=spec.steps_per_epoch(len(data.rows)),
        validation_rows=len(data.validation),
        validate_every=resolve_validate_every(spec, steps),
    )
    keeper = Keeper(folder, spec.checkpoint_every or 1) if folder else None
    watch = Watch(clock) if clock else Watch()
    return UnderWay(spec, data, Bigram(largest), resolved, {}, keeper, watch)
