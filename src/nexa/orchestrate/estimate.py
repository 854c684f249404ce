"""How much memory and how long a run would take: a stated model, scaled from measured runs.

Two anchors were measured on SmolLM2-135M (134.5M parameters), two vCPUs with bfloat16: 590 tokens
a second in LoRA training, and 43 s for everything around it (answers of base and tuned, merge with
its proof). Both are scaled by the work: 4 FLOPs a parameter and token for LoRA (forward, and the
gradient that passes through), 6 when every weight has a gradient of its own, shared evenly by the
cores. It is a figure to plan with, not a promise: caches, other work and long rows move it by half.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexa.core.hardware import Machine
from nexa.orchestrate.model_shape import Shape
from nexa.orchestrate.recipes import ROWS_A_STEP, recipe_for

# What was measured, and on what (docs/log.md).
ANCHOR_PARAMETERS = 134.5e6
ANCHOR_CORES = 2
ANCHOR_TOKENS_PER_S = 590
ANCHOR_AROUND_S = 43
BASIS = (
    "scaled from SmolLM2-135M on 2 cores with bfloat16: 590 tokens/s in LoRA training, "
    "43 s for both evaluations and the merge"
)
# Without bfloat16 units a core multiplies float32 at about half that speed (its vectors hold half
# as many numbers). Not measured here.
FLOAT32_SLOWDOWN = 2.0
FLOPS_A_PARAMETER = {"lora": 4, "full": 6}

# Python, torch and transformers themselves, logits in chunks, and what the allocator keeps. With it
# the model says 3.5 and 7.1 GB where 2.9 and 4.9 were measured (1,024 and 3,757 tokens a pass), and
# 3.7 where a whole run took 4.2: it errs above where memory is large, by a tenth below where small.
PROCESS_BYTES = 1_800_000_000
# Saved for the backward pass, a token and layer, in widths of the model: 16 + 6 MLP widths of about
# 2.7 + attention probabilities; see train/spec.py, where they are counted exactly.
WIDTHS_A_LAYER = 38
LARGEST_PASS_TOKENS = 4096
# Of LoRA on every linear layer: the widths that one unit of rank spans, in widths of the model,
# over the 10.7 squared widths that a layer of the Llama family holds.
ADAPTER_SHARE_A_RANK = 17.7 / 10.7
# Of a file of rows, where nothing was rendered yet: 2.7 in examples/materials, about 4 in prose.
BYTES_A_TOKEN = 3
FITS_SHARE = 0.9  # of the machine's memory: the rest is the system's


@dataclass(frozen=True)
class Estimate:
    """What a run would take, and what the figures rest on. `fits` is about memory."""

    memory_bytes: int
    seconds: float
    fits: bool
    basis: str


def estimate(
    shape: Shape,
    method: str,
    *,
    rows: int,
    tokens_a_row: float,
    epochs: float,
    machine: Machine,
) -> Estimate:
    """The peak memory and the whole time of `nexa train`; `method` is lora or full.

    This version trains on the processor, so a GPU that is there changes nothing, and is told.
    """
    memory = int(max(_training_bytes(shape, method, tokens_a_row, machine), _merge_bytes(shape)))
    basis = BASIS
    if not machine.bf16:
        basis += "; this processor has no bfloat16, taken to be half as fast"
    if machine.gpus:
        basis += f"; {machine.gpu_type}: unknown, this version trains on the processor"
    return Estimate(
        memory_bytes=memory,
        seconds=_seconds(shape, method, rows * tokens_a_row * epochs, machine),
        fits=memory <= FITS_SHARE * machine.memory_bytes,
        basis=basis,
    )


def _seconds(shape: Shape, method: str, tokens: float, machine: Machine) -> float:
    size = shape.parameters / ANCHOR_PARAMETERS
    speed = machine.cores / ANCHOR_CORES / (1.0 if machine.bf16 else FLOAT32_SLOWDOWN)
    work = FLOPS_A_PARAMETER[method] / FLOPS_A_PARAMETER["lora"]
    return (tokens * work / ANCHOR_TOKENS_PER_S + ANCHOR_AROUND_S) * size / speed


def _training_bytes(shape: Shape, method: str, tokens_a_row: float, machine: Machine) -> float:
    """Weights, what is trained with its gradient and two moments, and one pass's activations."""
    value = 2 if machine.bf16 else 4
    a_token = shape.num_layers * WIDTHS_A_LAYER * shape.hidden_size * value
    pass_tokens = max(tokens_a_row, min(LARGEST_PASS_TOKENS, ROWS_A_STEP * tokens_a_row))
    if method == "full":  # float32 masters, gradients, two moments; a copy to multiply with
        held: float = shape.parameters * (16 + (2 if machine.bf16 else 0))
    else:
        share = recipe_for(shape.parameters).rank * ADAPTER_SHARE_A_RANK / shape.hidden_size
        held = shape.parameters * (value + 16 * share)
    return PROCESS_BYTES + held + pass_tokens * a_token


def _merge_bytes(shape: Shape) -> float:
    """The merged model in float32 for its proof, beside the one that was trained."""
    return PROCESS_BYTES + shape.parameters * (4 + 4)
