"""What `nexa publish MODEL_DIR` was given: told apart by what lies in the folder, and said.

the output of a nexa run          final_model.json
a checkpoint, a merged adapter    checkpoint/NAME@vN, a run's id, or a folder with the very
                                  bytes of one that this project's store has
an adapter                        adapter_config.json, written by PEFT or by anything else
a merge of models, an export      export/NAME@vN, or a folder with the very bytes of one
full weights                      config.json and safetensors
a checkpoint of transformers'     one of the two above, with trainer_state.json beside it
Trainer
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.manifest import RunManifest, find_manifest, list_manifests
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.lm import folder as model_folder
from nexa.lm.folder import ADAPTER_FILES, PICKLES
from nexa.orchestrate.models import exports, run_of
from nexa.orchestrate.output import CARD, EXPORTED, read_output

Kind = Literal["run", "checkpoint", "adapter", "full"]
ADAPTER_CONFIG, ADAPTER_WEIGHTS = ADAPTER_FILES
MODEL_CONFIG = "config.json"
TRAINER_STATE = "trainer_state.json"
GGUF = ".gguf"
SEALED = ("checkpoint", "export")
# The roles of a run whose records make up a publication's evidence.
EVIDENCE = (
    "export",
    "checkpoint",
    "report",
    "base_scores",
    "tuned_scores",
    "base_answers",
    "tuned_answers",
    "suite",
    "dataset",
)


@dataclass(frozen=True)
class Source:
    """What is to be published."""

    kind: Kind
    said: str
    """The kind in words, as it is told."""
    folder: Path | None = None
    """Where it lies; None for what only the store has."""
    manifest: RunManifest | None = None
    """The run that made it with all its evidence."""
    checkpoint: Artifact[Any] | None = None
    """The sealed checkpoint that it is."""
    export: Artifact[Any] | None = None
    """The sealed whole model that it is, where no checkpoint was merged into it."""
    trainer_step: int | None = None
    """Of a checkpoint of transformers' Trainer."""


def detect(reference: str, tiers: Tiers) -> Source:
    """What a reference names, told as a note.

    Raises:
        UsageError: nothing of that name, a folder with no model, or with two.
        ModelError: weights that are pickles; named.
        IntegrityError: a run's output whose card is broken, or that was not written whole.
    """
    found = _detect(reference, tiers)
    emit("note", text=f"{reference}: {found.said}")
    return found


def _detect(reference: str, tiers: Tiers) -> Source:
    folder = Path(reference).expanduser()
    if not folder.exists():
        return _named(reference, tiers)
    if folder.suffix == GGUF and folder.is_file():
        raise _only_gguf(reference)
    if not folder.is_dir():
        raise UsageError(f"{reference} is a file, not a model's folder", fix="name its folder")
    if (folder / EXPORTED.name).is_file():
        read_output(folder, EXPORTED)  # refuses what was not written whole
    if (folder / CARD).is_file():
        run_id = read_output(folder)["run_id"]
        manifest = find_manifest(tiers.manifests, run_id)
        return Source("run", f"the output of run {run_id}", folder, manifest)
    sealed = _sealed_bytes(folder, tiers)
    if sealed is not None:
        return _checkpoint(sealed, tiers, folder)
    export = _sealed_whole(folder, tiers)
    if export is not None:
        return _export(export, tiers, folder)
    return _foreign(folder)


def _named(reference: str, tiers: Tiers) -> Source:
    run_id = run_of(reference, tiers)
    if run_id is not None:
        manifest = find_manifest(tiers.manifests, run_id)
        return Source("run", f"what run {run_id} made", None, manifest)
    kind, _, name = reference.partition("/")
    if kind == "export":
        return _export(tiers.store.get(kind, name), tiers)
    if kind in ("checkpoint", "adopted"):
        return _checkpoint(tiers.store.get(kind, name), tiers)
    raise UsageError(
        f"there is no folder {reference} to publish",
        fix="a model's folder, checkpoint/NAME@vN, or a run's id; nexa train leaves ./output",
    )


# -- what nexa made ------------------------------------------------------------------------------


def _checkpoint(checkpoint: Artifact[Any], tiers: Tiers, folder: Path | None = None) -> Source:
    """A sealed checkpoint; with the newest run that has all its evidence, if there is one."""
    whole = [run for run in list_manifests(tiers.manifests) if _proves(run, checkpoint.digest)]
    made, evaluated, alone = "which nexa trained", " in run", " and did not evaluate"
    if checkpoint.kind == "adopted":
        merged = checkpoint.body.recipe is not None
        made = "an adapter that others were merged into" if merged else "a model that was found"
        evaluated, alone = ", evaluated in run", ", not evaluated"
    said = f"{checkpoint.label}, {made}"
    if whole:
        run = whole[-1]
        return Source("run", f"{said}{evaluated} {run.run_id}", folder, run, checkpoint=checkpoint)
    return Source("checkpoint", f"{said}{alone}", folder, checkpoint=checkpoint)


def _export(export: Artifact[Any], tiers: Tiers, folder: Path | None = None) -> Source:
    """A sealed whole model. A merge of models is like full weights that were found.

    Raises:
        UsageError: another form of a model that is published as what it was made from.
    """
    origin = export.inputs.get("export")
    if export.body.format == "gguf":
        raise _only_gguf(export.label, tiers.store.by_digest(origin).label if origin else "MODEL")
    if origin is not None and export.step["name"] == "convert":
        raise _another_form(export, tiers.store.by_digest(origin).label)
    if "checkpoint" in export.inputs:
        found = _checkpoint(tiers.store.by_digest(export.inputs["checkpoint"]), tiers, folder)
        if found.manifest is not None and found.manifest.outputs["export"] != export.digest:
            raise _another_form(export, found.manifest.run_id)
        return found
    said = f"{export.label}, a whole model"
    if export.body.parents:
        parents = " and ".join(parent.name for parent in export.body.parents)
        said = f"{export.label}, a merge of {parents}"
    return Source("full", said, folder, export=export)


def _another_form(export: Artifact[Any], origin: str) -> UsageError:
    return UsageError(
        f"{export.label} is another form of a model, in {export.body.dtype}: what is published is "
        "what was evaluated",
        found=f"it was made from {origin}",
        fix=f"nexa publish {origin}",
    )


def _only_gguf(reference: str, source: str = "MODEL") -> UsageError:
    return UsageError(
        f"{reference} is a GGUF file: what is published is evaluated as safetensors, and converted",
        fix=f"nexa publish {source} --format gguf",
    )


def _sealed_whole(folder: Path, tiers: Tiers) -> Artifact[Any] | None:
    """The whole model of this project whose very bytes lie in the folder."""
    names = [path.name for path in folder.iterdir()]
    known = list(exports(tiers.store))
    if not known or MODEL_CONFIG not in names or not model_folder.weight_files(names):
        return None
    try:
        digest = sha256_bytes(canonical_json(model_folder.digests(folder)))
    except ModelError:
        return None  # none of ours; what is wrong with it is told where it is looked through
    return next((export for export in known if export.body.model_digest == digest), None)


def _proves(run: RunManifest, checkpoint: str) -> bool:
    roles = [role for role in EVIDENCE if role != "dataset"]
    mine = run.outputs.get("checkpoint") == checkpoint
    return mine and run.status == "done" and all(role in run.outputs for role in roles)


def _sealed_bytes(folder: Path, tiers: Tiers) -> Artifact[Any] | None:
    """The checkpoint of this project whose very bytes lie in the folder: a durable copy, say.

    Or the adapter that others were merged into; one that was only found is found again.
    """
    weights = next(
        (folder / n for n in (ADAPTER_WEIGHTS, "model.safetensors") if (folder / n).is_file()),
        None,
    )
    if weights is None:
        return None
    digest = model_folder.digest(weights)
    for artifact in _checkpoints(tiers):
        if artifact.files.get(weights.name) == digest and _same(folder, artifact):
            return artifact
    return None


def _checkpoints(tiers: Tiers) -> Iterator[Artifact[Any]]:
    store = tiers.store
    for kind in ("checkpoint", "adopted"):
        for name in store.names(kind):
            for version in reversed(store.versions(kind, name)):
                artifact = store.get(kind, f"{name}@{version}")
                if kind == "checkpoint" or artifact.body.recipe is not None:
                    yield artifact


def _same(folder: Path, artifact: Artifact[Any]) -> bool:
    """Whether no file of the folder tells otherwise: what is published is the sealed one."""
    here = {path.name: path for path in folder.iterdir() if path.is_file()}
    shared = set(here) & set(artifact.files)
    strange = MODEL_CONFIG in here and MODEL_CONFIG not in artifact.files
    return not strange and all(
        model_folder.digest(here[name]) == artifact.files[name] for name in shared
    )


# -- what others made ----------------------------------------------------------------------------


def _foreign(folder: Path) -> Source:
    names = sorted(path.name for path in folder.iterdir())
    adapter, model = ADAPTER_CONFIG in names, MODEL_CONFIG in names
    weights = model_folder.weight_files(names)
    if adapter and weights:
        raise UsageError(
            f"{folder} holds a whole model and an adapter: which of them is meant cannot be known",
            found=", ".join([ADAPTER_CONFIG, *weights[:3]]),
            fix="put the adapter into a folder of its own",
        )
    step = _trainer_step(folder) if TRAINER_STATE in names else None
    trainer = f", a checkpoint of transformers' Trainer at step {step}" if step is not None else ""
    if adapter:
        _refuse_pickles(folder, names, ADAPTER_WEIGHTS)
        return Source("adapter", f"an adapter{trainer}", folder, trainer_step=step)
    if model:
        _refuse_pickles(folder, names, *weights)
        return Source("full", f"full weights{trainer}", folder, trainer_step=step)
    raise _no_model(folder, names)


def _trainer_step(folder: Path) -> int | None:
    """The step that the Trainer wrote down; None when it is not to be read."""
    try:
        step = json.loads((folder / TRAINER_STATE).read_bytes())["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _refuse_pickles(folder: Path, names: list[str], *weights: str) -> None:
    """Weights that are only there as pickles; others beside safetensors are left out and named."""
    if any(name in names for name in weights):
        return
    pickles = [name for name in names if name.endswith(PICKLES)]
    raise ModelError(
        f"the weights of {folder} are pickles, which run code when they are opened"
        if pickles
        else f"{folder} holds no weights as safetensors",
        found=", ".join(pickles or names),
        fix="save it with safe_serialization=True where you trust it",
    )


def _no_model(folder: Path, names: list[str]) -> UsageError:
    inside = [n for n in names if _holds_a_model(folder / n)]
    newest = max(inside, key=_number, default=None)
    if any(name.endswith(GGUF) for name in names):
        return _only_gguf(str(folder))
    return UsageError(
        f"{folder} holds no model",
        found=", ".join(names[:8]) or "an empty folder",
        fix=f"name the folder inside it: {folder / newest}"
        if newest
        else "a folder with final_model.json, adapter_config.json or config.json",
    )


def _holds_a_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CARD, ADAPTER_CONFIG, MODEL_CONFIG))


def _number(name: str) -> tuple[int, str]:
    """`checkpoint-200` after `checkpoint-60`."""
    digits = name.rpartition("-")[2]
    return (int(digits) if digits.isdecimal() else -1, name)
