"""A model without a report is evaluated before it is published: against its base, on held-out rows.

What Nexa did not train is adopted first. The work is a run of its own (`run_type: publish`), so
that its manifest tells of machine, versions and cost like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.manifest import ManifestFile
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.eval.analyze import AnalyzeSpec
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.lm import folder as model_folder
from nexa.lm.folder import ADAPTER_FILES
from nexa.lm.resolve import ModelFiles, base_of, resolve
from nexa.orchestrate import plan
from nexa.orchestrate.evaluate import MAX_NEW_TOKENS, ROWS
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.publishing.source import ADAPTER_CONFIG, Source
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.weights.adopt import AdoptSpec
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.take import TakeSpec

FLAG = "--base-model"


def evaluate(source: Source, eval_data: Path, base_model: str | None, tiers: Tiers) -> ManifestFile:
    """Adopt or merge the model, score base and model on the same rows, and compare.

    Returns the closed manifest of this run: its outputs are a publication's evidence. Answers
    that were given before are not asked for again.

    Raises:
        UsageError: nothing says which model it is to be compared with.
        ModelError: model or base cannot be found or read.
        ParityError: the merged model is not base and adapter, or the model is not sound.
        EvalError: the rows cannot be asked, or the two were not asked alike.
    """
    with opened_beside(tiers, run_type="publish") as run:
        base = _base(source, base_model, tiers)
        run.ledger.amend(student_model=base.name, inputs={"model": base.digest})
        checkpoint = source.checkpoint or _adopt(run, source, base, base_model)
        _take_over(run, checkpoint)
        _score_and_compare(run, source, base, checkpoint, eval_data)
        report = run.made["report"].body
        run.meter()
        run.ledger.close(
            "done",
            eval_status="done",
            verdict=report.verdict,
            eval_summary={name: interval.mean for name, interval in report.tuned.items()},
        )
        keep_manifest(tiers, run.ledger)
    return run.ledger


# -- base and checkpoint -------------------------------------------------------------------------


def _base(source: Source, base_model: str | None, tiers: Tiers) -> ModelFiles:
    """The model that it is compared with: what was said, else what its own files say."""
    if source.checkpoint is not None:
        return _base_it_was_trained_from(source.checkpoint, base_model, tiers)
    name = base_model or (_named_base(source) if source.kind == "adapter" else None)
    if name is None:
        raise UsageError(
            f"nothing says which model {source.folder} is to be compared with",
            found=source.said,
            fix=f"{FLAG} MODEL",
        )
    try:
        return resolve(name, project=tiers.root)
    except ModelError as error:
        if base_model is None:
            error.fix = f"{FLAG} MODEL, where it is now ({ADAPTER_CONFIG} names {name})"
        raise


def _base_it_was_trained_from(
    checkpoint: Artifact[Any], base_model: str | None, tiers: Tiers
) -> ModelFiles:
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


def _named_base(source: Source) -> str | None:
    config = model_folder.read_json(_folder(source) / ADAPTER_CONFIG)
    name = config.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _adopt(run: Run, source: Source, base: ModelFiles, base_model: str | None) -> Artifact[Any]:
    folder = _folder(source)
    if source.kind == "adapter":
        whole, found = None, {n: model_folder.digest(folder / n) for n in ADAPTER_FILES}
    else:
        whole = resolve(str(folder), project=run.tiers.root)
        found = dict(whole.files)
    others = sorted(path.name for path in folder.iterdir() if path.name not in found)
    if others:
        emit("note", text=f"not published with it: {', '.join(others)}")
    spec = AdoptSpec(
        base=base,
        base_named_by=FLAG if base_model else ADAPTER_CONFIG,
        found=found,
        whole=whole,
        adapter=folder if whole is None else None,
        left_out=tuple(others),
        trainer_step=source.trainer_step,
        name=slug(folder.resolve().name),
    )
    return run.step("checkpoint", "adopt", spec)


def _take_over(run: Run, checkpoint: Artifact[Any]) -> None:
    """What the checkpoint's record holds, into the manifest; of an adopted one that is little."""
    body = checkpoint.body
    run.ledger.amend(template_sha256=body.template_sha256)
    if checkpoint.kind == "adopted":
        return
    dataset = run.tiers.store.by_digest(checkpoint.inputs["dataset"])
    run.made |= {"checkpoint": checkpoint, "dataset": dataset}
    digests = {role: artifact.digest for role, artifact in run.made.items()}
    run.ledger.amend(
        outputs=digests,
        reused=sorted(digests),
        dataset_id=f"{dataset.name}@{dataset.version}",
        dataset_hash=dataset.digest,
        tokens_trained=body.tokens_trained,
        label_tokens=body.label_tokens,
        seed=body.seed,
        mask_sha256=body.mask_sha256,
    )


# -- the comparison ------------------------------------------------------------------------------


def _score_and_compare(
    run: Run, source: Source, base: ModelFiles, checkpoint: Artifact[Any], eval_data: Path
) -> None:
    name, rows = checkpoint.name, slug(eval_data.resolve().stem)
    held_out = run.step("eval_dataset", "prepare", plan.eval_rows(eval_data, base, f"{rows}-eval"))
    freeze = FreezeSpec(name=rows, rows=ROWS, max_new_tokens=MAX_NEW_TOKENS)
    suite = run.step("suite", "freeze", freeze, dataset=held_out)
    run.step("base_answers", "generate", GenerateSpec(base, f"{name}-base"), suite=suite)
    export = _export(run, source, base, checkpoint)
    tuned = GenerateSpec(resolve(export.label, project=run.tiers.root), f"{name}-tuned")
    run.step("tuned_answers", "generate", tuned, suite=suite, export=export)
    for side in ("base", "tuned"):
        answers = run.made[f"{side}_answers"]
        scores = ScoreSpec(f"{name}-{side}")
        run.step(f"{side}_scores", "score", scores, suite=suite, answers=answers)
    run.step(
        "report",
        "analyze",
        AnalyzeSpec(name),
        suite=suite,
        dataset=run.made.get("dataset"),
        base=run.made["base_scores"],
        tuned=run.made["tuned_scores"],
    )


def _export(run: Run, source: Source, base: ModelFiles, checkpoint: Artifact[Any]) -> Artifact[Any]:
    if checkpoint.kind == "adopted" and checkpoint.body.method == "full":
        model = resolve(str(_folder(source)), project=run.tiers.root)
        return run.step("export", "take", TakeSpec(model, run.scratch), checkpoint=checkpoint)
    merge = MergeSpec(base, scratch=run.scratch)
    return run.step("export", "merge", merge, checkpoint=checkpoint)


def _folder(source: Source) -> Path:
    if source.folder is None:
        raise UsageError(f"{source.said} lies in no folder")
    return source.folder
