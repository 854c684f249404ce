"""How large a model is: its shape from config.json, its parameters from its files' headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from nexa.core.errors import IntegrityError, ModelError
from nexa.lm.folder import weight_files
from nexa.lm.resolve import ModelFiles

if TYPE_CHECKING:
    from nexa.weights.merge_models.recipe import Dtype

# The same number under the names that architectures give it.
HIDDEN_SIZE = ("hidden_size", "n_embd", "d_model")
NUM_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
VOCAB_SIZE = ("vocab_size",)
DTYPES: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class Shape:
    """What config.json says about a model's size, and the parameters that its files hold."""

    architecture: str
    hidden_size: int
    num_layers: int
    vocab_size: int
    parameters: int


def shape_of(model: ModelFiles) -> Shape:
    """Read a model's shape; no weight is loaded.

    Raises:
        ModelError: config.json names no causal language model, or lacks a size.
        IntegrityError: a weight file's header cannot be read.
    """
    config = model.config
    architecture = _architecture(model.name, config)
    return Shape(
        architecture=architecture,
        hidden_size=_size(model.name, config, HIDDEN_SIZE),
        num_layers=_size(model.name, config, NUM_LAYERS),
        vocab_size=_size(model.name, config, VOCAB_SIZE),
        parameters=sum(_stored(model).values()),
    )


def stored_dtype(model: ModelFiles) -> Dtype:
    """The type that most of a model's numbers are stored in, by the headers of its files.

    bfloat16 where that is none that is written.

    Raises:
        IntegrityError: a weight file's header cannot be read.
    """
    numbers = _stored(model)
    most = max(numbers, key=lambda code: numbers[code], default="BF16")
    return DTYPES.get(most, "bfloat16")


def _architecture(name: str, config: Mapping[str, Any]) -> str:
    """The first architecture; only one that continues text can be tuned on answers."""
    listed = config.get("architectures") or []
    architecture = str(listed[0]) if isinstance(listed, list) and listed else "none"
    if not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelError(
            f"{name} is not a causal language model",
            found=f"config.json: architectures is {architecture}",
            fix="choose a model whose architecture ends in ForCausalLM",
        )
    return architecture


def _size(name: str, config: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    raise ModelError(f"{name}: config.json has no {keys[0]}", found=", ".join(sorted(config)[:12]))


def _stored(model: ModelFiles) -> dict[str, int]:
    """How many numbers a model's files hold of each type, from their headers alone."""
    counts: dict[str, int] = {}
    for name in weight_files(model.files):
        try:
            with safe_open(model.folder / name, framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    part = file.get_slice(key)
                    code = str(part.get_dtype())
                    counts[code] = counts.get(code, 0) + math.prod(part.get_shape())
        except SafetensorError as error:
            raise IntegrityError(f"cannot read {name}", found=str(error)) from error
    return counts
