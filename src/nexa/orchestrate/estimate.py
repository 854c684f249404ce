"""How much memory and how long a run would take: a stated model, scaled from measured runs.

The memory is counted (`train.memory`). The time has two anchors, measured on SmolLM2-135M (134.5M
parameters) with two vCPUs and bfloat16: tokens a second of each engine in LoRA training, and the
seconds of everything around it (answers of base and tuned, merge with its proof). Both are scaled
by the parameters and shared evenly by the cores. It is a figure to plan with, not a promise:
caches, other work and long rows move it by half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexa.core.hardware import Machine
from nexa.orchestrate.model_shape import Shape
from nexa.orchestrate.recipes import ROWS_A_STEP, recipe_for
from nexa.train.memory import (
    LARGEST_MICRO_TOKENS,
    PROCESS_BYTES,
    EngineName,
    MemoryModel,
    Sizes,
    likely_engine,
    sizes_of,
)

if TYPE_CHECKING:  # it imports torch
    from nexa.train.spec import TrainSpec

# What was measured, and on what (docs/log.md).
ANCHOR_PARAMETERS = 134.5e6
ANCHOR_CORES = 2
ANCHOR_TOKENS_PER_S: Mapping[EngineName, int] = {"fused": 750, "generic": 730}
ANCHOR_AROUND_S = 43
# Without bfloat16 units: what float32 took on a processor that has them.
FLOAT32_SLOWDOWN = 2.9
# Work beside plain LoRA. All weights: 6 FLOPs a parameter and token instead of 4, for each has a
# gradient of its own. qlora makes its weights anew in every product: 493 tokens/s in the quick
# start. dora has twice the large products, by count; not measured.
WORK: Mapping[str, float] = {"lora": 1.0, "qlora": 1.4, "dora": 2.0, "full": 1.5}

# Of a file of rows, where nothing was rendered yet: 2.7 in examples/materials, about 4 in prose.
BYTES_A_TOKEN = 3
FITS_SHARE = 0.9  # of the machine's memory: the rest is the system's
# Of the Llama family, where config.json is not at hand: MLP in widths, width of a head, query
# heads on a key head.
USUAL_MLP, USUAL_HEAD, USUAL_GROUP = 8 / 3, 64, 3


@dataclass(frozen=True)
class Estimate:
    """What a run would take, and what the figures rest on. `fits` is about memory."""

    memory_bytes: int
    seconds: float
    fits: bool
    basis: str
    engine: EngineName = "generic"  # that would most likely run it
    least_bytes: int = 0  # with one row a pass, which a training falls back on


def estimate(
    shape: Shape,
    method: str,
    *,
    rows: int,
    tokens_a_row: float,
    epochs: float,
    machine: Machine,
    spec: TrainSpec | None = None,
) -> Estimate:
    """The peak memory and the whole time of `nexa train`; `method` is lora, qlora, dora or full.

    `spec` is the training, where there is one: without it the recipe for models of this size
    stands in. This version trains on the processor, so a GPU that is there changes nothing, and is
    told.
    """
    engine = likely_engine(shape.architecture, method, spec.engine if spec else "auto")
    least, usual = _training_bytes(shape, method, engine, tokens_a_row, machine, spec)
    memory = max(usual, _merge(shape))
    speed = ANCHOR_TOKENS_PER_S[engine]
    basis = (
        f"scaled from SmolLM2-135M on {ANCHOR_CORES} cores with bfloat16: {speed} tokens/s in LoRA "
        f"training by the {engine} engine, {ANCHOR_AROUND_S} s for both evaluations and the merge"
    )
    if not machine.bf16:
        basis += f"; this processor has no bfloat16, taken to be {FLOAT32_SLOWDOWN:g} times slower"
    if machine.gpus:
        basis += f"; {machine.gpu_type}: unknown, this version trains on the processor"
    return Estimate(
        memory_bytes=memory,
        seconds=_seconds(shape, method, speed, rows * tokens_a_row * epochs, machine),
        fits=memory <= FITS_SHARE * machine.memory_bytes,
        basis=basis,
        engine=engine,
        least_bytes=max(least, _merge(shape)),
    )


def _seconds(
    shape: Shape, method: str, tokens_per_s: float, tokens: float, machine: Machine
) -> float:
    size = shape.parameters / ANCHOR_PARAMETERS
    speed = machine.cores / ANCHOR_CORES / (1.0 if machine.bf16 else FLOAT32_SLOWDOWN)
    return (tokens * WORK[method] / tokens_per_s + ANCHOR_AROUND_S) * size / speed


def _training_bytes(
    shape: Shape,
    method: str,
    engine: EngineName,
    tokens_a_row: float,
    machine: Machine,
    spec: TrainSpec | None,
) -> tuple[int, int]:
    """The peak of the training, with one row a pass, and with its usual pass."""
    sizes = sizes_of(spec.model.config) if spec else _usual_sizes(shape)
    adapter = spec.adapter if spec else None
    rank = adapter.rank if adapter else recipe_for(shape.parameters).rank
    rank = 0 if method == "full" else rank
    most = (spec.micro_tokens if spec else None) or LARGEST_MICRO_TOKENS
    rows_a_step = spec.rows_per_step if spec else ROWS_A_STEP
    model = MemoryModel(
        sizes=sizes,
        engine=engine,
        value_bytes=_value_bytes(spec, machine),
        parameters=shape.parameters,
        trained=rank * sizes.adapter_ends or shape.parameters,
        rank=rank,
        optimizer=spec.optimizer.name if spec else "adamw",
        quantized=method == "qlora",
    )
    tokens = max(tokens_a_row, min(most, rows_a_step * tokens_a_row))
    lengths = [max(1, round(tokens_a_row))]
    return model.peak_bytes_of(lengths, tokens_a_row), model.peak_bytes_of(lengths, tokens)


def _value_bytes(spec: TrainSpec | None, machine: Machine) -> int:
    asked = spec.precision if spec else "auto"
    return 2 if asked == "bfloat16" or (asked == "auto" and machine.bf16) else 4


def _usual_sizes(shape: Shape) -> Sizes:
    """What a model of this shape most likely is inside."""
    heads = max(1, shape.hidden_size // USUAL_HEAD)
    return Sizes(
        layers=shape.num_layers,
        width=shape.hidden_size,
        mlp=round(USUAL_MLP * shape.hidden_size),
        heads=heads,
        key_heads=max(1, heads // USUAL_GROUP),
        head_width=min(USUAL_HEAD, shape.hidden_size),
        vocabulary=shape.vocab_size,
        tied=True,
    )


def _merge(shape: Shape) -> int:
    """The merged model in float32 for its proof, beside the one that was trained."""
    return PROCESS_BYTES["generic"] + shape.parameters * (4 + 4)
