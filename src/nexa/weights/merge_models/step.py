"""The step: several models become one model folder that transformers loads, with its proof."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexa.core.identity import where
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import Store
from nexa.lm.resolve import ModelFiles
from nexa.weights.folder import SHARD_BYTES
from nexa.weights.merge_models.recipe import Recipe


@dataclass(frozen=True)
class MergeModelsSpec:
    """What is merged, and into files of which size."""

    recipe: Recipe
    models: tuple[ModelFiles, ...]
    """`recipe.models` in order, and last `recipe.base` where it is none of them."""
    shard_bytes: int = SHARD_BYTES
    name: str = where(default="merged")
    scratch: Path | None = where(default=None)
    threads: int | None = where(default=None)
    """None: as many as there are cores."""


def merge_models(
    spec: MergeModelsSpec, *, store: Store, **parents: Artifact[ExportBody] | None
) -> Draft[ExportBody]:
    """Merge models tensor by tensor and prove the result.

    `parents` (parent1, parent2 and so on) are those of the models that are exports of this store.
    """
    raise NotImplementedError
