"""The step: several models become one model folder that transformers loads, with its proof."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from nexa.core.events import emit, progress
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import Store, require_space
from nexa.lm.folder import digests
from nexa.lm.resolve import ModelFiles
from nexa.weights.folder import SHARD_BYTES, write_config
from nexa.weights.merge_adapter import parity_files
from nexa.weights.merge_models.execute import execute
from nexa.weights.merge_models.plan import Plan, plan
from nexa.weights.merge_models.proof import prove
from nexa.weights.merge_models.recipe import Recipe
from nexa.weights.merge_models.texts import write_texts


@dataclass(frozen=True)
class MergeModelsSpec:
    """What is merged, and into files of which size."""

    recipe: Recipe
    models: tuple[ModelFiles, ...]
    """`recipe.models` in order, and last `recipe.base` where it is none of them."""
    shard_bytes: int = SHARD_BYTES
    name: str = where(default="merged")
    scratch: Path | None = where(default=None)
    """Where to make the temporary folder; it goes with the draft."""
    threads: int | None = where(default=None)
    """None: as many as there are cores."""


def merge_models(
    spec: MergeModelsSpec, *, store: Store, **parents: Artifact[ExportBody] | None
) -> Draft[ExportBody]:
    """Merge models tensor by tensor and prove the result.

    The draft's files are a whole model folder and `parity.json`. Tokenizer, chat template and
    generation config are those of one of the models: the recipe says whose.

    `parents` (parent1, parent2 and so on) are those of the models that are exports of this store;
    they are its lineage, and their files are read through `spec.models`.

    Raises:
        ModelError: models that cannot be merged, or files that cannot be read.
        UsageError: a method without what it needs.
        ParityError: a check that failed, by name.
        StorageError: no space.
    """
    made = plan(spec.recipe, spec.models)
    scratch = Path(tempfile.mkdtemp(prefix="nexa-merge-models-", dir=spec.scratch))
    try:
        draft = _merge(spec, made, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(draft, shutil.rmtree, scratch, ignore_errors=True)
    return draft


def _merge(spec: MergeModelsSpec, plan: Plan, out: Path) -> Draft[ExportBody]:
    dtype = spec.recipe.dtype
    require_space(out, size_bytes(plan, dtype), "the merged model")
    execute(plan, out, dtype=dtype, limit_bytes=spec.shard_bytes, threads=spec.threads)
    write_config(plan.config, out, dtype=dtype, tie=plan.tie)
    write_texts(plan.models[plan.tokenizer], out)
    with progress("proving the merge"):
        parity = prove(out, plan, dtype=dtype)
    parity.require()
    emit("weights.parity", passed=True, checks=len(parity.checks))
    files = digests(out)
    base = spec.recipe.base or spec.recipe.models[0]
    refs = dict(zip(spec.recipe.references, (m.ref for m in spec.models), strict=True))
    body = ExportBody(
        format="safetensors",
        dtype=dtype,
        base=refs[base],
        parents=[model.ref for model in spec.models],
        recipe=spec.recipe.to_json(),
        model_digest=sha256_bytes(canonical_json(files)),
        parity=parity.to_json(),
        passed=parity.passed,
    )
    proved = parity_files(out, parity.to_json())
    return Draft("export", spec.name, body, proved, own=out, digests=files)


def size_bytes(plan: Plan, dtype: str) -> int:
    """What the child's weights take on the disk."""
    kind: torch.dtype = getattr(torch, dtype)
    return kind.itemsize * sum(prod(task.shape) for task in plan.tasks)
