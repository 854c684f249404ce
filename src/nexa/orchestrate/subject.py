"""What a MODEL of `nexa export` and `nexa merge` is, told apart; and how it becomes a whole model.

a run, ./output, export/NAME      an export of this project
checkpoint/NAME                   a checkpoint; its merged export, where there is one
a folder with an adapter          PEFT's two files; of a sealed one, its record
anything else                     a whole model: a folder, a Hub id, a .gguf file, an alias
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.lm import folder as model_folder
from nexa.lm import sealed
from nexa.lm.folder import ADAPTER_FILES
from nexa.lm.resolve import ALIASES, ModelFiles, Source, resolve
from nexa.orchestrate.adoption import FLAG, adopt, base_of_adapter, base_of_checkpoint
from nexa.orchestrate.models import merged_from, run_of, sealed_export
from nexa.orchestrate.output import EXPORTED, TRAINED, read_output
from nexa.orchestrate.run_state import Run
from nexa.weights.folder import SHARD_BYTES
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.merge_models.recipe import Dtype

SEALED = ("export", "checkpoint", "adopted")


@dataclass(frozen=True)
class Subject:
    """One model that was named: at least one of export, checkpoint, adapter and model is there."""

    reference: str
    said: str
    """What it is, in words."""
    base: str | None = None
    """What the user says that its adapter belongs on."""
    source: Source = "auto"
    export: Artifact[Any] | None = None
    """The sealed record of the whole model."""
    checkpoint: Artifact[Any] | None = None
    """What the whole model is, or would be, merged from."""
    adapter: Path | None = None
    """The folder of an adapter that no record is of yet."""
    model: ModelFiles | None = None
    """A whole model that no record is of."""
    named_whole: bool = True
    """Whether the whole model was named, and not a checkpoint or an adapter that it comes from."""

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter was named."""
        body = self.checkpoint.body if self.checkpoint else None
        lora = self.adapter is not None or (body is not None and body.method == "lora")
        return lora and not self.named_whole

    @property
    def digest(self) -> str:
        """Of what is there: the export's model, the checkpoint's record, the adapter's file."""
        if self.export is not None:
            return str(self.export.body.model_digest)
        if self.checkpoint is not None:
            return self.checkpoint.digest
        if self.adapter is not None:
            return model_folder.digest(self.adapter / ADAPTER_FILES[1])
        return self.model.digest if self.model else ""

    @property
    def has_parts(self) -> bool:
        """Whether it can be merged, or merged again: a whole model that was found cannot."""
        files = self.checkpoint.files if self.checkpoint else {}
        return self.adapter is not None or bool(files)

    @property
    def name(self) -> str:
        """What its exports are called."""
        artifact = self.export or self.checkpoint
        if artifact is not None:
            return artifact.name
        if self.adapter is not None:
            return slug(self.adapter.resolve().name)
        named = self.model.name if self.model else self.reference
        return slug(named.rsplit("/", 1)[-1].removesuffix(".gguf"))


@dataclass(frozen=True)
class Whole:
    """A model with all its weights in place, and its sealed record where it has one."""

    model: ModelFiles
    export: Artifact[Any] | None


def detect(
    reference: str, tiers: Tiers, *, base_model: str | None = None, source: Source = "auto"
) -> Subject:
    """What a reference names, told as a note; nothing is made.

    Raises:
        UsageError: no such run; a base for what needs none; a source for what has one only.
        ModelError: nothing of that name, or not a model.
        IntegrityError: a folder that Nexa left and that was not written whole.
    """
    if source != "auto" and not {reference, base_model} & set(ALIASES):
        raise UsageError(
            f"--base-source {source} is for aliases with several sources",
            found=reference,
            fix=f"leave it out, or name an alias: {', '.join(ALIASES)}",
        )
    own = source if reference in ALIASES else "auto"
    found = replace(_detect(reference, tiers, own), base=base_model, source=source)
    if base_model is not None and not found.has_parts:
        raise UsageError(
            f"{FLAG} is for adapters, and {reference} is {found.said}", fix=f"leave {FLAG} out"
        )
    emit("note", text=f"{reference}: {found.said}")
    return found


def _detect(reference: str, tiers: Tiers, source: Source) -> Subject:
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return _in_folder(reference, folder, tiers)
    run_id = run_of(reference, tiers)
    if run_id is not None:
        made = sealed.find(run_id, tiers.root)
        return _of_record(reference, made, f"what run {run_id} made", tiers.store)
    kind, _, name = reference.partition("/")
    if kind in SEALED and not folder.exists():
        made = tiers.store.get(kind, name)
        return _of_record(reference, made, made.label, tiers.store)
    return _whole_model(reference, resolve(reference, project=tiers.root, source=source), tiers)


def _of_record(reference: str, made: Artifact[Any], said: str, store: Store) -> Subject:
    if made.kind == "export":
        parent = made.inputs.get("checkpoint")
        checkpoint = store.by_digest(parent) if parent else None
        return Subject(reference, said, export=made, checkpoint=checkpoint)
    export = merged_from(made.digest, store)
    said += ", merged before" if export else ", not merged yet"
    subject = Subject(reference, said, export=export, checkpoint=made, named_whole=False)
    if export is None and not made.files:
        _adapter_of(subject)  # says that there is none
    return subject


def _in_folder(reference: str, folder: Path, tiers: Tiers) -> Subject:
    for card in (TRAINED, EXPORTED):
        if (folder / card.name).is_file():
            read_output(folder, card)  # refuses what was not written whole
    names = sorted(path.name for path in folder.iterdir())
    config, weights = ADAPTER_FILES
    if config not in names or "config.json" in names:
        return _whole_model(reference, resolve(reference, project=tiers.root), tiers)
    if weights not in names:
        raise ModelError(
            f"the adapter in {reference} has no {weights}",
            found=", ".join(names[:8]),
            fix="save it with safe_serialization=True where you trust it",
        )
    known = _sealed_adapter(folder, tiers.store)
    if known is not None:
        return _of_record(reference, known, f"the adapter {known.label}", tiers.store)
    return Subject(reference, "an adapter", adapter=folder, named_whole=False)


def _sealed_adapter(folder: Path, store: Store) -> Artifact[Any] | None:
    """The newest checkpoint, or merged adapter, whose very files lie in the folder."""
    here = {name: model_folder.digest(folder / name) for name in ADAPTER_FILES}
    for kind in ("checkpoint", "adopted"):
        for name in store.names(kind):
            for version in reversed(store.versions(kind, name)):
                made = store.get(kind, f"{name}@{version}")
                # One that was only found is adopted again, with the base that is named now.
                own = kind == "checkpoint" or made.inputs
                if own and all(made.files.get(file) == here[file] for file in here):
                    return made
    return None


def _whole_model(reference: str, model: ModelFiles, tiers: Tiers) -> Subject:
    export = sealed_export(model, tiers.store)
    if export is not None:
        return _of_record(reference, export, f"{export.label}, by its files", tiers.store)
    return Subject(reference, f"a whole model ({model.origin.partition(':')[0]})", model=model)


# -- whole ---------------------------------------------------------------------------------------


def whole(run: Run, subject: Subject, *, side: str = "") -> Whole:
    """The whole model that a subject is: as it was found, merged before, or merged now.

    `side` stands before the roles of what the run makes for it.

    Raises:
        ModelError: the adapter's base cannot be found, or it is no change of it.
        ParityError: the merged model is not base and adapter.
    """
    if subject.model is not None:
        return Whole(subject.model, None)
    export = subject.export or merge_parts(run, subject, side=side)
    return Whole(resolve(export.label, project=run.tiers.root), export)


def merge_parts(
    run: Run,
    subject: Subject,
    *,
    dtype: Dtype | None = None,
    shard_bytes: int | None = None,
    name: str | None = None,
    side: str = "",
) -> Artifact[Any]:
    """Merge a checkpoint or an adapter into its base; raises as `whole`."""
    base = base_of_subject(subject, run.tiers)
    spec = MergeSpec(
        base,
        dtype=dtype or MergeSpec.dtype,
        shard_bytes=shard_bytes or SHARD_BYTES,
        name=name,
        scratch=run.scratch,
    )
    checkpoint = checkpoint_of(run, subject, base, side)
    return run.step(f"{side}export", "merge", spec, checkpoint=checkpoint)


def base_of_subject(subject: Subject, tiers: Tiers) -> ModelFiles:
    """The base of what is to be merged; looked for, and nothing else."""
    if subject.checkpoint is not None:
        return base_of_checkpoint(subject.checkpoint, subject.base, tiers)
    return base_of_adapter(_adapter_of(subject), subject.base, tiers, source=subject.source)


def checkpoint_of(run: Run, subject: Subject, base: ModelFiles, side: str = "") -> Artifact[Any]:
    """The record of what is to be merged; an adapter that was found is adopted now."""
    if subject.checkpoint is not None:
        return subject.checkpoint
    named = subject.base is not None
    role = f"{side}checkpoint"
    return adopt(run, _adapter_of(subject), base, base_named=named, role=role)


def stand_in(subject: Subject, tiers: Tiers) -> ModelFiles:
    """The model, or of what is not merged yet its base: of the same shapes and tokenizer."""
    if subject.export is not None:
        return resolve(subject.export.label, project=tiers.root)
    return subject.model or base_of_subject(subject, tiers)


def _adapter_of(subject: Subject) -> Path:
    if subject.adapter is None:
        raise UsageError(
            f"{subject.reference} is {subject.said}: there is no adapter to merge",
            fix="name the model's own folder",
        )
    return subject.adapter
