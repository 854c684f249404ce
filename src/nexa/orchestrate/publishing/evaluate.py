"""A model without a report is evaluated before it is published: against its base, on held-out rows.

What Nexa did not train is adopted first. The work is a run of its own (`run_type: publish`), so
that its manifest tells of machine, versions and cost like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.errors import ModelError, UsageError
from nexa.core.identity import slug
from nexa.core.manifest import ManifestFile
from nexa.core.records import Artifact
from nexa.core.safety import summary_of_tuned
from nexa.core.tiers import Tiers
from nexa.eval.analyze import AnalyzeSpec
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.lm import folder as model_folder
from nexa.lm.resolve import ModelFiles, base_of, resolve
from nexa.orchestrate import plan
from nexa.orchestrate.adoption import FLAG, adopt, base_of_checkpoint
from nexa.orchestrate.exam import MAX_NEW_TOKENS, ROWS
from nexa.orchestrate.leaderboards import enter
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.publishing.source import ADAPTER_CONFIG, Source
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.weights.adopt import AdoptSpec
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.take import TakeSpec


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
        enter(run)
        run.ledger.close(
            "done",
            eval_status="done",
            verdict=report.verdict,
            eval_summary=summary_of_tuned(report),
        )
        keep_manifest(tiers, run.ledger)
    return run.ledger


# -- base and checkpoint -------------------------------------------------------------------------


def _base(source: Source, base_model: str | None, tiers: Tiers) -> ModelFiles:
    """The model that it is compared with: what was said, else what its own files say."""
    if source.checkpoint is not None:
        return base_of_checkpoint(source.checkpoint, base_model, tiers)
    if source.export is not None and base_model is None and source.export.body.parents:
        return _base_of_merge(source.export, tiers)
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


def _base_of_merge(export: Artifact[Any], tiers: Tiers) -> ModelFiles:
    """What a merge of models began from: its recipe's base, or its first parent."""
    try:
        return base_of(export, tiers.root)
    except ModelError as error:
        error.fix = f"{FLAG} MODEL, where {export.body.base.name} is now"
        raise


def _named_base(source: Source) -> str | None:
    config = model_folder.read_json(_folder(source) / ADAPTER_CONFIG)
    name = config.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _adopt(run: Run, source: Source, base: ModelFiles, base_model: str | None) -> Artifact[Any]:
    if source.export is not None:
        sealed = resolve(source.export.label, project=run.tiers.root)
        spec = AdoptSpec(
            base=base,
            base_named_by=FLAG if base_model else f"the record of {source.export.label}",
            found=dict(sealed.files),
            whole=sealed,
            name=source.export.name,
        )
        return run.step("checkpoint", "adopt", spec)
    folder = _folder(source)
    whole = None if source.kind == "adapter" else resolve(str(folder), project=run.tiers.root)
    return adopt(
        run, folder, base, whole=whole, base_named=base_model is not None, purpose="published"
    )


def _take_over(run: Run, checkpoint: Artifact[Any]) -> None:
    """What the checkpoint's record holds, into the manifest; of an adopted one that is little."""
    body = checkpoint.body
    run.ledger.amend(template_sha256=body.template_sha256)
    if "checkpoint" in run.made:
        return  # adopted just now
    run.made["checkpoint"] = checkpoint
    if checkpoint.kind == "checkpoint":
        run.made["dataset"] = run.tiers.store.by_digest(checkpoint.inputs["dataset"])
    digests = {role: artifact.digest for role, artifact in run.made.items()}
    run.ledger.amend(outputs=digests, reused=sorted(digests))
    if checkpoint.kind == "adopted":
        return
    dataset = run.made["dataset"]
    run.ledger.amend(
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
        reference = source.export.label if source.export else str(_folder(source))
        spec = TakeSpec(resolve(reference, project=run.tiers.root), run.scratch)
        return run.step("export", "take", spec, checkpoint=checkpoint, export=source.export)
    merge = MergeSpec(base, scratch=run.scratch)
    return run.step("export", "merge", merge, checkpoint=checkpoint)


def _folder(source: Source) -> Path:
    if source.folder is None:
        raise UsageError(f"{source.said} lies in no folder")
    return source.folder
