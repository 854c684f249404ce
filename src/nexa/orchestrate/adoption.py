"""What Nexa did not train takes its place in the records, before it is merged or compared.

Exporting, merging and publishing adopt in the same way, so that one finds what another made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.lm import folder as model_folder
from nexa.lm.folder import ADAPTER_FILES
from nexa.lm.resolve import ALIASES, ModelFiles, Source, base_of, resolve
from nexa.orchestrate.run_state import Run
from nexa.weights.adopt import AdoptSpec

FLAG = "--base-model"
ADAPTER_CONFIG = ADAPTER_FILES[0]
TRAINER_STATE = "trainer_state.json"


def adopt(
    run: Run,
    folder: Path,
    base: ModelFiles,
    *,
    whole: ModelFiles | None = None,
    base_named: bool = False,
    purpose: str = "taken",
    role: str = "checkpoint",
) -> Artifact[Any]:
    """The record of a folder that holds an adapter, or the whole model `whole`.

    `base_named` says that the user named the base, and not the folder's own files; `purpose` is
    the word for what becomes of it.

    Raises:
        ModelError: not an adapter that can be merged, or not a change of its base.
    """
    if whole is None:
        found = {name: model_folder.digest(folder / name) for name in ADAPTER_FILES}
    else:
        found = dict(whole.files)
    others = sorted(path.name for path in folder.iterdir() if path.name not in found)
    if others:
        emit("note", text=f"not {purpose} with it: {', '.join(others)}")
    spec = AdoptSpec(
        base=base,
        base_named_by=FLAG if base_named else ADAPTER_CONFIG,
        found=found,
        whole=whole,
        adapter=folder if whole is None else None,
        left_out=tuple(others),
        trainer_step=trainer_step(folder),
        name=slug(folder.resolve().name),
    )
    return run.step(role, "adopt", spec)


def base_of_adapter(
    folder: Path, base_model: str | None, tiers: Tiers, *, source: Source = "auto"
) -> ModelFiles:
    """The model that an adapter belongs on: what was said, else what its own files say.

    Raises:
        UsageError: nothing says which one.
        ModelError: it cannot be found.
    """
    named = model_folder.read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    name = base_model or (named if isinstance(named, str) and named else None)
    if name is None:
        raise UsageError(
            f"nothing says which model the adapter in {folder} belongs on",
            found=f"{ADAPTER_CONFIG} names none",
            fix=f"{FLAG} MODEL",
        )
    try:
        return resolve(name, project=tiers.root, source=source if name in ALIASES else "auto")
    except ModelError as error:
        if base_model is None:
            error.fix = f"{FLAG} MODEL, where it is now ({ADAPTER_CONFIG} names {name})"
        raise


def base_of_checkpoint(
    checkpoint: Artifact[Any], base_model: str | None, tiers: Tiers
) -> ModelFiles:
    """The model that a sealed checkpoint was trained from; a name given must be that model's.

    Raises:
        UsageError: another model was named.
        ModelError: it is not where it was.
    """
    if base_model is None:
        return base_of(checkpoint, tiers.root)
    given = resolve(base_model, project=tiers.root)
    if given.digest != checkpoint.body.base.digest:
        raise UsageError(
            f"{checkpoint.label} was not trained from {base_model}",
            found=f"it was trained from {checkpoint.body.base.name}",
            fix=f"leave {FLAG} out",
        )
    return given


def trainer_step(folder: Path) -> int | None:
    """The step that transformers' Trainer noted beside a model; None where there is none."""
    try:
        step = json.loads((folder / TRAINER_STATE).read_bytes())["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
