"""What a training run is asked to do, and what that was taken to mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa.core.errors import ConfigError
from nexa.core.hardware import this_machine
from nexa.core.identity import where
from nexa.lm.adapters import LoraSpec
from nexa.lm.resolve import ModelFiles


@dataclass(frozen=True)
class OptimizerSpec:
    """How weights move."""

    name: Literal["adamw", "sgd", "adafactor", "adamw8bit"] = "adamw"
    lr: float = 2e-4  # the peak
    weight_decay: float = 0.0  # of matrices; vectors (norms, biases) never decay
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    max_grad_norm: float = 1.0  # gradients are scaled down to it; 0 leaves them


@dataclass(frozen=True)
class SchedulerSpec:
    """How the learning rate moves. Give warm-up in steps or as a share of all steps, not both."""

    name: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    warmup_steps: int | None = None
    warmup_ratio: float | None = None
    decay_ratio: float | None = None  # of wsd: the share of all steps that falls; None: 0.2

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ConfigError(
                "warm-up is given twice",
                found=f"warmup_steps {self.warmup_steps}, warmup_ratio {self.warmup_ratio}",
                fix="leave one of them out",
            )

    def warmup(self, total_steps: int) -> int:
        """Steps of warm-up in a run of `total_steps`."""
        if self.warmup_ratio is not None:
            return math.ceil(self.warmup_ratio * total_steps)
        return self.warmup_steps or 0


@dataclass(frozen=True)
class QuantizeSpec:
    """How the frozen base of an adapter is held in memory."""

    bits: Literal[4] = 4
    scheme: Literal["nf4"] = "nf4"
    double: bool = True  # the scales are quantised too


@dataclass(frozen=True)
class ValidationSpec:
    """Rows kept out of the training split, and how often their loss is measured."""

    rows: int = 32
    every: int | None = None  # steps; None: as checkpoints by default


@dataclass(frozen=True)
class EarlyStopping:
    """Ends the training when the validation loss has not become better."""

    patience: int = 3  # measurements
    min_delta: float = 0.0  # nats a token


@dataclass(frozen=True)
class Limits:
    """What a training may take: it is stopped with its weights so far when one is reached."""

    seconds: float | None = None
    usd: float | None = None
    usd_per_hour: float = 0.0


@dataclass(frozen=True)
class Again:
    """What a run that is done again (`nexa replay`) came upon, and no recipe tells."""

    last_step: int  # where it ended: a limit in time is not reached twice at the same step
    halvings: tuple[dict[str, Any], ...] = ()  # where memory was short, as in `Resolved`


@dataclass(frozen=True)
class TrainSpec:
    """One fine-tuning run. Give `epochs` or `max_steps`; neither means one epoch."""

    model: ModelFiles
    name: str = where(default="checkpoint")  # the checkpoint's public name
    method: Literal["lora", "full"] = "lora"
    lora: LoraSpec | None = None  # None with method lora: LoraSpec's own defaults
    optimizer: OptimizerSpec = OptimizerSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int = 8  # rows a micro-step
    gradient_accumulation: int = 1  # micro-steps an optimiser step
    seed: int = 0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    max_length: int | None = None  # tokens a row; None: what the dataset was prepared for
    quantize: QuantizeSpec | None = None  # of the base; with an adapter only
    engine: Literal["auto", "fused", "generic"] = "auto"
    validation: ValidationSpec | None = None
    early_stopping: EarlyStopping | None = None
    select: Literal["last", "best"] = "last"  # best: the lowest validation loss
    limits: Limits = Limits()
    memory_limit: int | None = where(default=None)  # bytes this process may take; None: no limit
    micro_tokens: int | None = where(default=None)  # tokens a forward pass holds: memory only
    scratch: Path | None = where(default=None)  # where the temporary folder is made
    rendered: Path | None = where(default=None)  # where rendered rows are kept; None: nowhere
    run_state: Path | None = where(default=None)  # where checkpoints go; None: the run keeps none
    checkpoint_every: int | None = where(default=None)  # steps; None: `resolve_every`
    checkpoint_keep: int = where(default=2)  # checkpoints that are kept; older ones go
    # Takes each checkpoint's folder to a second place, when it is whole.
    commit: Callable[[Path], None] | None = where(default=None)
    allow_inexact: bool = where(default=False)  # resume where equal weights are not promised
    again: Again | None = where(default=None)

    def __post_init__(self) -> None:
        if self.epochs is not None and self.max_steps is not None:
            raise ConfigError(
                "the length of the training is given twice",
                found=f"epochs {self.epochs}, max_steps {self.max_steps}",
                fix="leave one of them out",
            )
        if self.method == "full" and self.lora is not None:
            raise ConfigError(
                "a LoRA adapter and method full exclude each other",
                fix="leave lora out, or set method: lora",
            )
        if self.method == "full" and self.quantize is not None:
            raise ConfigError(
                "a quantised base cannot be trained itself",
                fix="method: qlora trains an adapter on it",
            )

    @property
    def rows_per_step(self) -> int:
        """Rows an optimiser step learns from."""
        return self.batch_size * self.gradient_accumulation

    @property
    def adapter(self) -> LoraSpec | None:
        """The adapter to train; None: all weights."""
        return (self.lora or LoraSpec()) if self.method == "lora" else None

    def total_steps(self, rows: int) -> int:
        """Optimiser steps over `rows` rows; the last one of an epoch may hold fewer rows."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, math.ceil((self.epochs or 1.0) * self.steps_per_epoch(rows)))

    def steps_per_epoch(self, rows: int) -> int:
        """Optimiser steps in which every row is seen once."""
        return math.ceil(rows / self.rows_per_step)


@dataclass(frozen=True)
class Resolved:
    """Every automatic choice of a run, made once and written into its checkpoint."""

    precision: str  # what products are computed in
    micro_tokens: int
    max_length: int
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int
    threads: int
    allocator: str
    executor: str  # generic or fused
    executor_reason: str
    layout: str
    layout_reason: str
    head: str
    head_reason: str
    rows: int
    rows_truncated: int
    rows_without_label: int
    inexact: tuple[str, ...] = ()  # what had changed when it was resumed with --allow-inexact
    device: str = "cpu"  # or cuda: what products are computed on
    attention: str = "the model's own"  # how each document's attention is computed
    kernels: str = "plain"  # or compiled: what runs the elementwise work
    prefix: int = 0  # tokens that all rows begin with and that are computed once; 0: none
    halvings: tuple[dict[str, Any], ...] = ()  # of micro_tokens: step, from, to, why
    validation_rows: int = 0  # taken out of the rows to learn from
    validate_every: int | None = None  # steps

    @property
    def engine(self) -> str:
        """The executor that ran, and why, in one line."""
        way = (
            f"{self.executor} ({self.executor_reason}), {self.layout} ({self.layout_reason}), "
            f"{self.head} ({self.head_reason})"
        )
        return f"{way}, resumed inexactly ({'; '.join(self.inexact)})" if self.inexact else way


# A tenth of the run, so that a kill costs little of it; a hundred steps at most, because of a long
# run that is hours. Closer together they would cost more than they save: on SmolLM2-135M and two
# cores a LoRA checkpoint of 59 MB takes 0.1 s, one of all weights (1.6 GB) 8 s, as one step does.
CHECKPOINTS_A_RUN, FARTHEST_STEPS = 10, 100
CLOSEST_STEPS = {"lora": 10, "full": 50}


def resolve_every(asked: int | None, total_steps: int, method: Literal["lora", "full"]) -> int:
    """Steps between two checkpoints."""
    if asked is not None:
        return asked
    tenth = math.ceil(total_steps / CHECKPOINTS_A_RUN)
    return min(max(tenth, CLOSEST_STEPS[method]), FARTHEST_STEPS)


def resolve_precision(
    asked: Literal["auto", "bfloat16", "float32"],
) -> Literal["bfloat16", "float32"]:
    """bfloat16 where the processor multiplies it at full speed, float32 elsewhere."""
    if asked != "auto":
        return asked
    return "bfloat16" if this_machine().bf16 else "float32"
