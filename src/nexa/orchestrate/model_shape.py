"""How large a model is: its shape from config.json, its parameters from its files' headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nexa.core.errors import IntegrityError, ModelError
from nexa.lm.resolve import ModelFiles

# The same number under the names that architectures give it.
HIDDEN_SIZE = ("hidden_size", "n_embd", "d_model")
NUM_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
VOCAB_SIZE = ("vocab_size",)


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
        parameters=sum(
            _parameters(model.folder / name)
            for name in model.files
            if name.endswith(".safetensors") and "/" not in name
        ),
    )


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


def _parameters(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise IntegrityError(f"cannot read {path.name}", found=str(error)) from error
