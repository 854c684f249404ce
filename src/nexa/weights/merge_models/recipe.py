"""What is to be merged and how: read from YAML (mergekit's too) or built from a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nexa.weights.merge_models.methods import Method

Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Value:
    """A number of the recipe: one, or a gradient over the layers, for some tensors or for all.

    `filters` are (substring of a tensor's name, or None for all; the points that are interpolated
    linearly over the layers), the first that fits counts.
    """

    filters: tuple[tuple[str | None, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Slice:
    """Layers `start` to `end` (without it) of one model, with the numbers that hold for them."""

    model: str
    start: int | None = None
    end: int | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """What stands side by side: the same number of layers of every model; they become one."""

    sources: tuple[Slice, ...]
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A merge. `models` has every model's reference once, in order; blocks follow each other."""

    method: Method
    models: tuple[str, ...]
    blocks: tuple[Block, ...]
    base: str | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    dtype: Dtype = "bfloat16"
    tokenizer: str | None = None
    """The model whose tokenizer and template the child gets; None: the base's, or the first's."""
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is kept in the export's record."""
        raise NotImplementedError


def read_recipe(path: Path) -> Recipe:
    """A YAML file, in mergekit's keys.

    Raises:
        ConfigError: what cannot be read or is not known, every mistake at once, with its line.
    """
    raise NotImplementedError
