"""A model without a report is evaluated before it is published: against its base, on held-out rows.

What Nexa did not train is adopted first. The work is a run of its own (`run_type: publish`), so
that its manifest tells of machine, versions and cost like any other.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nexa.core.config import load_config
from nexa.core.errors import EvalError, ModelError, NexaError, UsageError
from nexa.core.events import EventLog, emit, listening
from nexa.core.identity import slug
from nexa.core.manifest import ManifestFile
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.eval.analyze import AnalyzeSpec
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.infra.cost_tracker import cost_of
from nexa.lm import folder as model_folder
from nexa.lm.folder import ADAPTER_FILES
from nexa.lm.resolve import ModelFiles, base_of, resolve
from nexa.orchestrate import plan
from nexa.orchestrate.evaluate import MAX_NEW_TOKENS, ROWS
from nexa.orchestrate.provenance import opening_facts
from nexa.orchestrate.publish_source import ADAPTER_CONFIG, Source
from nexa.orchestrate.runner import run_step
from nexa.weights.adopt import AdoptSpec
from nexa.weights.merge_adapter import MergeSpec
from nexa.weights.take import TakeSpec

FLAG = "--base-model"


@dataclass
class _Work:
    """The run under way: what it has made, by role."""

    tiers: Tiers
    ledger: ManifestFile
    start: datetime
    scratch: Path
    price_usd: float
    made: dict[str, Artifact[Any]]

    def step(
        self, role: str, name: str, spec: Any, **inputs: Artifact[Any] | None
    ) -> Artifact[Any]:
        artifact, reused = run_step(name, spec, inputs, store=self.tiers.store)
        self.made[role] = artifact
        told = self.ledger.manifest
        self.ledger.amend(
            outputs={**told.outputs, role: artifact.digest},
            reused=[*told.reused, role] if reused else told.reused,
        )
        return artifact

    def end(self, status: Literal["done", "failed", "interrupted"], **facts: Any) -> None:
        cost = cost_of(
            self.start,
            datetime.now(UTC),
            gpu_type=self.ledger.manifest.gpu_type,
            provider=self.ledger.manifest.provider,
            cost_per_hour_usd=self.price_usd,
            tokens=self.ledger.manifest.tokens_trained,
            gain=None,  # the money bought an evaluation, not the model
        )
        self.ledger.close(status, cost=cost, cost_estimate_usd_total=cost.cost_total_usd, **facts)


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
    with _opened(tiers) as work:
        base = _base(source, base_model, tiers)
        work.ledger.amend(student_model=base.name, inputs={"model": base.digest})
        checkpoint = source.checkpoint or _adopt(work, source, base, base_model)
        _take_over(work, checkpoint)
        _score_and_compare(work, source, base, checkpoint, eval_data)
        report = work.made["report"].body
        work.end(
            "done",
            eval_status="done",
            verdict=report.verdict,
            eval_summary={name: interval.mean for name, interval in report.tuned.items()},
        )
    return work.ledger


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


def _adopt(work: _Work, source: Source, base: ModelFiles, base_model: str | None) -> Artifact[Any]:
    folder = _folder(source)
    if source.kind == "adapter":
        whole, found = None, {n: model_folder.digest(folder / n) for n in ADAPTER_FILES}
    else:
        whole = resolve(str(folder), project=work.tiers.root)
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
    return work.step("checkpoint", "adopt", spec)


def _take_over(work: _Work, checkpoint: Artifact[Any]) -> None:
    """What the checkpoint's record holds, into the manifest; of an adopted one that is little."""
    body = checkpoint.body
    work.ledger.amend(template_sha256=body.template_sha256)
    if checkpoint.kind == "adopted":
        return
    dataset = work.tiers.store.by_digest(checkpoint.inputs["dataset"])
    work.made |= {"checkpoint": checkpoint, "dataset": dataset}
    digests = {role: artifact.digest for role, artifact in work.made.items()}
    work.ledger.amend(
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
    work: _Work, source: Source, base: ModelFiles, checkpoint: Artifact[Any], eval_data: Path
) -> None:
    name, rows = checkpoint.name, slug(eval_data.resolve().stem)
    held_out = work.step("eval_dataset", "prepare", plan.eval_rows(eval_data, base, f"{rows}-eval"))
    freeze = FreezeSpec(name=rows, rows=ROWS, max_new_tokens=MAX_NEW_TOKENS)
    suite = work.step("suite", "freeze", freeze, dataset=held_out)
    work.step("base_answers", "generate", GenerateSpec(base, f"{name}-base"), suite=suite)
    export = _export(work, source, base, checkpoint)
    tuned = GenerateSpec(resolve(export.label, project=work.tiers.root), f"{name}-tuned")
    work.step("tuned_answers", "generate", tuned, suite=suite, export=export)
    for side in ("base", "tuned"):
        answers = work.made[f"{side}_answers"]
        scores = ScoreSpec(f"{name}-{side}")
        work.step(f"{side}_scores", "score", scores, suite=suite, answers=answers)
    work.step(
        "report",
        "analyze",
        AnalyzeSpec(name),
        suite=suite,
        dataset=work.made.get("dataset"),
        base=work.made["base_scores"],
        tuned=work.made["tuned_scores"],
    )


def _export(
    work: _Work, source: Source, base: ModelFiles, checkpoint: Artifact[Any]
) -> Artifact[Any]:
    if checkpoint.kind == "adopted" and checkpoint.body.method == "full":
        model = resolve(str(_folder(source)), project=work.tiers.root)
        return work.step("export", "take", TakeSpec(model, work.scratch), checkpoint=checkpoint)
    merge = MergeSpec(base, scratch=work.scratch)
    return work.step("export", "merge", merge, checkpoint=checkpoint)


def _folder(source: Source) -> Path:
    if source.folder is None:
        raise UsageError(f"{source.said} lies in no folder")
    return source.folder


# -- the run -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(tiers: Tiers) -> Iterator[_Work]:
    """A run with its manifest open and its log listening; closed as it deserves."""
    start, price = datetime.now(UTC), _price(tiers.root)
    facts = opening_facts(start, run_type="publish", config_path=None, ledger=tiers.manifests)
    log = EventLog(tiers.logs / f"{facts.run_id}.jsonl")
    scratch = tiers.new_scratch(facts.run_id)
    try:
        with listening(log):
            ledger = ManifestFile.open(tiers.manifests, facts)
            work = _Work(tiers, ledger, start, scratch, price, {})
            emit("run.start", run_id=facts.run_id)
            with _closed_as_it_deserves(work):
                yield work
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        log.close()


@contextlib.contextmanager
def _closed_as_it_deserves(work: _Work) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        work.end("interrupted", error="interrupted by the user")
        raise
    except NexaError as error:
        told = {"eval_status": "failed"} if isinstance(error, EvalError) else {}
        work.end("failed", error=error.what, **told)
        raise
    except BaseException as error:
        work.end("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        emit("run.end", run_id=work.ledger.manifest.run_id, status=work.ledger.manifest.status)


def _price(project: Path) -> float:
    """What an hour costs by the project's config.yaml; nothing where there is none."""
    path = project / "config.yaml"
    return load_config(path).infra.cost_per_hour_usd if path.exists() else 0.0
