"""A reference to a model as one that can be run: adapters are merged first, never left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError
from nexa.core.events import emit
from nexa.core.manifest import RunManifest, find_manifest, list_manifests
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, Source, resolve
from nexa.weights.merge_adapter import MergeSpec

# `latest`, or how a run's id begins: the day is enough of it.
RUN = re.compile(r"latest|\d{4}-\d{2}-\d{2}[0-9a-f_-]*")


def run_of(reference: str, tiers: Tiers) -> str | None:
    """The run that `latest`, a run's id or its beginning names; None for any other reference.

    `latest` is the newest run that has a whole model of its own, which the newest of all may not
    have: an export is another form of a model that was there, and a round of improvement that was
    rolled back, or came to no verdict, has made none that anybody shall use.

    Raises:
        UsageError: no such run, or more than one.
    """
    if not RUN.fullmatch(reference) or Path(reference).exists():
        return None
    if reference != "latest":
        return find_manifest(tiers.manifests, reference).run_id
    runs = [run for run in list_manifests(tiers.manifests) if _stands(run)]
    newest = runs[-1] if runs else find_manifest(tiers.manifests, reference)
    for role in ("export", "checkpoint"):
        having = [run.run_id for run in runs if role in run.outputs]
        if having and having[-1] != newest.run_id:
            what = "whole model" if role == "export" else "model"
            emit("note", text=f"latest: run {having[-1]}; later ones have made no {what}")
        if having:
            return having[-1]
    return newest.run_id


def _stands(run: RunManifest) -> bool:
    return run.run_type != "export" and (run.run_type != "improve" or "report" in run.outputs)


def whole_model(reference: str, *, project: Path, source: Source = "auto") -> ModelFiles:
    """The model with all its weights in place.

    A checkpoint stands for the export that was merged from it.

    Raises:
        UsageError: no such run.
        ModelError: no such model, or an adapter that nothing was merged from.
    """
    tiers = Tiers.of(project)
    wanted = run_of(reference, tiers) or reference
    files = resolve(wanted, source=source, project=project)
    kind, _, digest = files.origin.partition(":")
    if files.adapter is None and kind != "checkpoint":
        return files
    export = merged_from(digest, tiers.store)
    if export is None:
        what = "an adapter" if files.adapter else "a checkpoint"
        raise ModelError(
            f"{reference} is {what}, and no merged export of it is here",
            fix=f"nexa merge {reference} --output ./merged   then name ./merged",
        )
    return resolve(export.label, project=project)


def merged_from(checkpoint: str, store: Store) -> Artifact[Any] | None:
    """The newest whole model that was made from the checkpoint with this digest.

    The one in training's own type, if there is one: it is what was evaluated. Exports that grew
    from other models (conversions, merges of models) name no checkpoint.
    """
    made = [export for export in exports(store) if export.inputs.get("checkpoint") == checkpoint]
    own = (export for export in made if export.body.dtype == MergeSpec.dtype)
    return next(own, made[0] if made else None)


def sealed_export(model: ModelFiles, store: Store) -> Artifact[Any] | None:
    """The newest export whose very files a model is, wherever they lie."""
    for export in exports(store):
        # Of a GGUF file the model's own files are a copy that was made to compute with.
        in_gguf = model.source_sha256 is not None and model.source_sha256 in export.files.values()
        if in_gguf or export.body.model_digest == model.digest:
            return export
    return None


def exports(store: Store) -> Iterator[Artifact[Any]]:
    """Every export of a project, by name, the newest version first."""
    for name in store.names("export"):
        for version in reversed(store.versions("export", name)):
            yield store.get("export", f"{name}@{version}")
