"""Trainings that are stopped at a step, and what they leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexa.core.events import Event, Sink
from nexa.core.records import CheckpointBody, Draft
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles
from nexa.train.spec import OptimizerSpec, TrainSpec

SMALL: dict[str, Any] = {
    "lora": LoraSpec(rank=4, alpha=8.0, dropout=0.2),
    "optimizer": OptimizerSpec(lr=1e-2),
    "precision": "float32",
    "batch_size": 4,
    "epochs": 3,
    "checkpoint_every": 2,
}


def at(done: int, act: Callable[[], object]) -> Sink:
    """A sink that does something when so many steps are done."""

    def sink(event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == "training" and event["done"] == done:
            act()

    return sink


def send(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def drop() -> None:
    """As a kill: nothing is saved, nothing is closed."""
    raise KeyboardInterrupt


def contents(draft: Draft[CheckpointBody]) -> dict[str, bytes]:
    return {name: Path(str(path)).read_bytes() for name, path in draft.files.items()}


def spec_of(base: ModelFiles, folder: Path, **changes: Any) -> TrainSpec:
    return TrainSpec(base, run_state=folder, **{**SMALL, **changes})
