"""From a recipe and its models to the list of tensors to compute: no weight is read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models.methods import Method, Options
from nexa.weights.merge_models.recipe import Recipe


@dataclass(frozen=True)
class Source:
    """One tensor that goes in: which model (its place in the plan's `models`), under which name."""

    model: int
    name: str


@dataclass(frozen=True)
class Task:
    """One tensor of the child, `shape`, and how it is made."""

    name: str
    shape: tuple[int, ...]
    method: Method
    sources: tuple[Source, ...]
    base: Source | None
    options: Options


@dataclass(frozen=True)
class Plan:
    """Everything that a merge will do.

    `rows` gives, for a model whose tokenizer numbers the same strings otherwise, the permutation of
    its embedding and head: row i of the child is row `rows[model][i]` of that model.
    """

    models: tuple[ModelFiles, ...]
    tasks: tuple[Task, ...]
    config: Mapping[str, Any]
    """The child's config.json."""
    tie: bool
    tokenizer: int
    """The place of the model whose tokenizer, template and generation config the child gets."""
    rows: Mapping[int, tuple[int, ...]]


def plan(recipe: Recipe, models: Sequence[ModelFiles]) -> Plan:
    """Resolve a recipe for these models (`recipe.models`, and last `recipe.base` if it is not one).

    Raises:
        ModelError: unlike architectures, or tokenizers that differ; with a table of what.
        UsageError: a method with too few models, or without its base or its numbers.
    """
    raise NotImplementedError
