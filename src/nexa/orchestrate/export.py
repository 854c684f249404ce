"""`nexa export`: any model in the form that others load, with the proof that it is still itself.

A checkpoint or an adapter is merged first. What is sealed in the asked form already is not made
again; its files are handed out. Everything is a run with its manifest, and works in any folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gguf import GGML_QUANT_SIZES

from nexa.core.config_sections import QUANTIZATIONS, USUAL_QUANTIZATION
from nexa.core.errors import UsageError, nearest
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.lm.folder import weight_files
from nexa.lm.resolve import Source
from nexa.orchestrate.exported import Exported, write_folder
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.model_shape import shape_of, stored_dtype
from nexa.orchestrate.output import EXPORTED, check_output
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.orchestrate.subject import Subject, detect, merge_parts, stand_in, whole
from nexa.weights.convert import ConvertSpec
from nexa.weights.folder import SHARD_BYTES
from nexa.weights.gguf.mixes import MIXES
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.merge_models.recipe import DTYPES, Dtype

Format = Literal["safetensors", "gguf"]


@dataclass(frozen=True)
class Request:
    """What is wanted. None stands for what follows from the model."""

    model: str
    output: Path
    format: Format | None = None
    quantization: str | None = None
    dtype: Dtype | None = None
    shard_bytes: int | None = None
    name: str | None = None
    base_model: str | None = None
    source: Source = "auto"
    command: str = "nexa export"

    def __post_init__(self) -> None:
        if self.quantization is not None and self.quantization not in QUANTIZATIONS:
            near = nearest(self.quantization.lower(), QUANTIZATIONS)
            raise UsageError(
                f"there is no quantisation {self.quantization!r}",
                found=f"known: {', '.join(QUANTIZATIONS)}",
                fix=f"--quantization {near}" if near else None,
            )
        safetensors = {"--dtype": self.dtype, "--max-shard-size": self.shard_bytes}
        gguf = {"--quantization": self.quantization}
        other: dict[str, Any] = {**(safetensors if self.form == "gguf" else gguf)}
        if strange := [flag for flag, value in other.items() if value is not None]:
            fits = "safetensors" if self.form == "gguf" else "gguf"
            raise UsageError(
                f"{' and '.join(strange)} cannot be asked of {self.form}",
                fix=f"--format {fits}, or leave {' and '.join(strange)} out",
            )

    @property
    def form(self) -> Format:
        """The format: what was said, or what the other choices say."""
        return self.format or ("gguf" if self.quantization else "safetensors")


@dataclass(frozen=True)
class Preview:
    """What would be made: `steps` of the step table, in a folder, about so large."""

    model: str
    steps: list[str]
    form: str
    size_bytes: int
    folder: str


def export(request: Request, project: Path) -> Exported:
    """Make or find the export, prove it, and copy it to the asked folder.

    Raises:
        UsageError: no such run, or a choice that does not fit.
        ModelError: no such model, or one that the format cannot hold.
        StorageError: the folder holds somebody else's files, or there is no space.
        ParityError: what was written is not the model.
        MissingExtra: a K-quant without the extra `gguf`.
    """
    tiers, subject = opening(request, project)
    with opened_beside(tiers, run_type="export") as run:
        run.ledger.amend(student_model=subject.name, inputs={"model": subject.digest})
        exported = write_folder(run, make(run, subject, request), request.output, request.command)
        close(run)
    return exported


def preview(request: Request, project: Path) -> Preview:
    """What `export` would make, and about how large; nothing is made.

    Raises:
        UsageError, ModelError, StorageError: as `export`.
    """
    tiers, subject = opening(request, project)
    form = _form(subject, request, tiers)
    size = round(shape_of(stand_in(subject, tiers)).parameters * bits_a_weight(form) / 8)
    steps = _steps(subject, request, tiers)
    return Preview(subject.said, steps, f"{request.form}, {form}", size, str(request.output))


def opening(request: Request, project: Path) -> tuple[Tiers, Subject]:
    """What can be refused before there is a run; and where the run will be, in a new place."""
    tiers = Tiers.of(project)
    check_output(request.output, EXPORTED)
    tell_place(tiers)
    subject = detect(request.model, tiers, base_model=request.base_model, source=request.source)
    return tiers, subject


def tell_place(tiers: Tiers) -> None:
    """Say where things go in a folder that is no project yet."""
    if not (tiers.root / ".nexa").exists():
        emit("note", text=f"records are kept in {tiers.root / '.nexa'}, manifests in runs/")


def close(run: Run) -> None:
    """Close the manifest of a run that evaluates nothing."""
    run.meter()
    run.ledger.close("done", eval_status="skipped")
    keep_manifest(run.tiers, run.ledger)


# -- what is made --------------------------------------------------------------------------------


def _steps(subject: Subject, request: Request, tiers: Tiers) -> list[str]:
    """The steps that lead from what is there to what is asked for; none where it is the same.

    What can be merged is merged again in another type, so that its weights are rounded once.
    """
    export = subject.export
    if export is not None and _fits(export, request, tiers.store):
        return []
    if subject.has_parts and request.form == "safetensors":
        return ["merge"]
    return ["merge", "convert"] if export is None and subject.has_parts else ["convert"]


def _fits(export: Artifact[Any], request: Request, store: Store) -> bool:
    """Whether an export is what is asked for: format, type, and files that are small enough."""
    body, asked = export.body, request.dtype or request.quantization
    if body.format != request.form or asked not in (None, body.dtype):
        return False
    if request.shard_bytes is None:
        return True
    weights = (store.path(export, name) for name in weight_files(export.files))
    return max(map(_tensor_bytes, weights)) <= request.shard_bytes


def _tensor_bytes(path: Path) -> int:
    """The size of a safetensors file without its header, whose length stands in front."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def make(run: Run, subject: Subject, request: Request) -> Artifact[Any]:
    """The export: found, merged or converted; raises as `export`."""
    steps, form = _steps(subject, request, run.tiers), _form(subject, request, run.tiers)
    if subject.export is not None and not steps:
        return _found(run, subject.export, request)
    other = request.dtype is not None or request.form == "gguf"
    name = request.name or (f"{subject.name}-{form}" if other else subject.name)
    if steps == ["merge"]:
        return merge_parts(
            run, subject, dtype=request.dtype, shard_bytes=request.shard_bytes, name=slug(name)
        )
    source = whole(run, subject)
    spec = ConvertSpec(
        source.model,
        request.form,
        form,
        shard_bytes=request.shard_bytes or SHARD_BYTES,
        name=slug(name),
        scratch=run.scratch,
    )
    return run.step("converted", "convert", spec, export=source.export)


def _found(run: Run, export: Artifact[Any], request: Request) -> Artifact[Any]:
    """What is sealed already, in the manifest of this run too."""
    if request.name not in (None, export.name):
        emit("note", text=f"it is here already as {export.label}: --name is for what is new")
    emit("step.reused", step=export.step["name"], label=export.label, digest=export.digest)
    run.ledger.amend(outputs={"export": export.digest}, reused=["export"])
    return export


def _form(subject: Subject, request: Request, tiers: Tiers) -> str:
    """The type of safetensors, the quantisation of GGUF: as asked, else as the model has it."""
    export = subject.export
    if request.form == "gguf":
        own = export.body.dtype if export and export.body.format == "gguf" else USUAL_QUANTIZATION
        return request.quantization or own
    if request.dtype is not None or (export is None and subject.has_parts):
        return request.dtype or MergeSpec.dtype
    if export is not None and export.body.format == "safetensors":
        return str(export.body.dtype)
    return stored_dtype(stand_in(subject, tiers))


def bits_a_weight(form: str) -> float:
    """About how many bits a number takes, scales included: of a mix, what most of it is in."""
    if form in DTYPES:
        return 32 if form == "float32" else 16
    numbers, size_bytes = GGML_QUANT_SIZES[MIXES[form].base]
    return 8 * size_bytes / numbers
