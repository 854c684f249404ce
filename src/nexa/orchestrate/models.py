"""A reference to a model as one that can be run: adapters are merged first, never left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError
from nexa.core.events import emit
from nexa.core.manifest import find_manifest, list_manifests
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, Source, resolve

# `latest`, or how a run's id begins: the day is enough of it.
RUN = re.compile(r"latest|\d{4}-\d{2}-\d{2}[0-9a-f-]*")


def run_of(reference: str, tiers: Tiers) -> str | None:
    """The run that `latest`, a run's id or its beginning names; None for any other reference.

    `latest` is the newest run that has a whole model, which the newest of all may not have.

    Raises:
        UsageError: no such run, or more than one.
    """
    if not RUN.fullmatch(reference) or Path(reference).exists():
        return None
    newest = find_manifest(tiers.manifests, reference)
    if reference != "latest" or "export" in newest.outputs:
        return newest.run_id
    whole = [run for run in list_manifests(tiers.manifests) if "export" in run.outputs]
    if not whole:
        return newest.run_id
    emit("note", text=f"latest: run {whole[-1].run_id}; later ones have made no whole model")
    return whole[-1].run_id


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
    export = _merged_from(digest, tiers.store)
    if export is None:
        what = "an adapter" if files.adapter else "a checkpoint"
        raise ModelError(
            f"{reference} is {what}, and no merged export of it is here",
            fix="nexa train makes one; its run id or ./output can be named instead",
        )
    return resolve(export.label, project=project)


def _merged_from(checkpoint: str, store: Store) -> Artifact[Any] | None:
    """The newest export that was made from the checkpoint with this digest."""
    exports = (
        store.get("export", f"{name}@{version}")
        for name in store.names("export")
        for version in reversed(store.versions("export", name))
    )
    return next((export for export in exports if export.inputs["checkpoint"] == checkpoint), None)
