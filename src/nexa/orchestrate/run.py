"""A training run from end to end: data, base scores, training, merge, tuned scores, report.

The order is the story. Training comes first and begins at once, with no other model in memory;
then the base answers, the adapter is merged, and the merged model answers the same questions. What
is to be published as GGUF is converted last, from the very export that was evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexa.core.allocator import peak_bytes
from nexa.core.config import Config, load_config
from nexa.core.config_sections import DataSection, ModelSection
from nexa.core.errors import NexaError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.manifest import RunManifest
from nexa.core.methods import method_name
from nexa.core.records import Artifact, CheckpointBody, DatasetBody
from nexa.core.safety import summary_of_tuned
from nexa.core.tiers import Tiers
from nexa.data.filters.registry import specs
from nexa.data.registry import register
from nexa.lm.resolve import ModelFiles, Source, resolve
from nexa.orchestrate import deliver, plan, sealed_data
from nexa.orchestrate.check.flight import require_clean
from nexa.orchestrate.merge_data import suite_of
from nexa.orchestrate.publishing.gguf import conversions
from nexa.orchestrate.publishing.publish import publish_run
from nexa.orchestrate.run_checkpoints import RunCheckpoints
from nexa.orchestrate.run_state import Run, opened
from nexa.orchestrate.runner import recipe_of
from nexa.publish.gate import verdict_findings
from nexa.train.spec import TrainSpec


def train(config_path: Path, *, allow_inexact: bool = False, check: bool = True) -> RunManifest:
    """Run `nexa train`: everything that config.yaml asks for, up to the report or publication.

    Returns the closed manifest. What was made before by an equal recipe is reused, and a training
    that was stopped goes on from its newest checkpoint; `allow_inexact` lets it go on where the
    same weights are not promised. The flight check comes first, unless `check` is false.

    Raises:
        NexaError: with the exit code of its class; the manifest is closed as failed and says why.
            A publication that is refused (GateError) leaves the run as done as it is.
        KeyboardInterrupt: passed on, after the manifest was closed as interrupted.
    """
    config = load_config(config_path)
    tiers = Tiers.of(config_path.parent)
    plan.check(config, tiers)
    checked = require_clean(config_path) if check else None
    with opened(tiers, config, config_path) as run:
        emit("flight.check", made=check, cached=checked is not None and checked.cached)
        base = plan.base_model(config, tiers)
        run.ledger.amend(student_model=base.name, inputs={"model": base.digest})
        prepare(run, base)
        facts = checked.facts if checked is not None else {}
        train_prepared(run, base, facts, allow_inexact=allow_inexact)
    return run.ledger.manifest


def train_prepared(
    run: Run, base: ModelFiles, facts: Mapping[str, Any], *, allow_inexact: bool = False
) -> None:
    """Everything after the data: training, scores, deliverables, the manifest's end, publication.

    `facts` are what the flight check measured.

    Raises:
        NexaError: as `train`.
    """
    checkpoints = _train_and_score(run, base, facts, allow_inexact=allow_inexact)
    deliver.deliver(run, base)
    checkpoints.empty()
    _convert(run)
    close_scored(run)
    if run.config.publish is not None:
        publish_run(run.ledger, run.config.publish, run.tiers)


def prepare_only(config_path: Path, *, dataset_id: str | None = None) -> Artifact[DatasetBody]:
    """Run the data stage alone: the dataset, and the suite that it is kept clean of.

    `dataset_id` is what the dataset is called; without one it is called as its file or folder.
    """
    tiers = Tiers.of(config_path.parent)
    return _prepared(load_config(config_path), tiers, config_path, dataset_id)


def prepare_data(
    train: str,
    model: str,
    project: Path,
    *,
    eval_path: str | None = None,
    source: Source = "auto",
    dataset_id: str | None = None,
    filters: Sequence[str] = (),
) -> Artifact[DatasetBody]:
    """The data stage for named files and a named model, without a config.yaml.

    `train` and `eval_path` are files, folders or Hub datasets; without an `eval_path` the usual
    share of the rows is held out. `filters` are names beside the default ones.

    Raises:
        ConfigError: there is no such filter, or it needs an option.
    """
    specs(filters)
    config = Config(
        model=ModelSection(path=model, source=source),
        data=DataSection(
            train_path=train, eval_path=eval_path, filters={name: {} for name in filters}
        ),
    )
    return _prepared(config, Tiers.of(project), None, dataset_id)


def _prepared(
    config: Config, tiers: Tiers, config_path: Path | None, dataset_id: str | None
) -> Artifact[DatasetBody]:
    with opened(tiers, config, config_path, run_type="data_gen") as run:
        prepare(run, plan.base_model(config, tiers), dataset_id)
        run.meter()
        run.ledger.close("done", eval_status="skipped")
    return run.made["dataset"]


def prepare(run: Run, base: ModelFiles, dataset_id: str | None = None) -> None:
    """Rows to train on and a frozen suite that none of them leaks into."""
    config, root = run.config, run.tiers.root
    sealed = sealed_data.find(config.data.train_path, run.tiers)
    if sealed is not None:
        _take(run, base, sealed)
        return
    dataset_id = slug(dataset_id) if dataset_id else plan.dataset_id(config, root)
    if config.data.eval_path is not None:
        held_out = run.step("eval_dataset", "prepare", plan.held_out(config, root, base))
        suite = run.step("suite", "freeze", plan.freeze(config, root), dataset=held_out)
        rows = replace(plan.training_rows(config, root, base), dataset_id=dataset_id)
        dataset = run.step("dataset", "prepare", rows, suite=suite)
    else:
        rows = replace(plan.training_rows(config, root, base), dataset_id=dataset_id)
        dataset = run.step("dataset", "prepare", rows)
        run.step("suite", "freeze", plan.freeze(config, root), dataset=dataset)
    register(run.tiers.root / "dataset_registry.yaml", dataset)
    deliver.commit_dataset(run.tiers, dataset)
    run.ledger.amend(dataset_id=f"{dataset.name}@{dataset.version}", dataset_hash=dataset.digest)


def _take(run: Run, base: ModelFiles, dataset: Artifact[DatasetBody]) -> None:
    """A dataset that is sealed already, and what its model is asked."""
    config, root = run.config, run.tiers.root
    sealed_data.require_template(dataset, base)
    sealed_data.tell_settled(config, dataset)
    if config.data.eval_path is not None:
        held_out = run.step("eval_dataset", "prepare", plan.held_out(config, root, base))
        run.step("suite", "freeze", plan.freeze(config, root), dataset=held_out)
    else:
        suite = suite_of(dataset, run.tiers.store)
        run.take("suite", sealed_data.require_suite(dataset, suite))
    run.take("dataset", dataset)
    deliver.commit_dataset(run.tiers, dataset)
    run.ledger.amend(dataset_id=f"{dataset.name}@{dataset.version}", dataset_hash=dataset.digest)


def _train_and_score(
    run: Run, base: ModelFiles, facts: Mapping[str, Any], *, allow_inexact: bool
) -> RunCheckpoints:
    """Training, base answers, merge, tuned answers, and what the difference proves.

    `facts` are what the flight check measured.

    Returns the checkpoints of the way, which nobody needs when the trained one is delivered.
    """
    config, root, made = run.config, run.tiers.root, run.made
    name = plan.run_name(config, root, base)
    suite = made["suite"]
    checkpoints = fit(run, base, facts, allow_inexact=allow_inexact)
    # After the training, which so begins at once and with no other model in memory.
    run.step("base_answers", "generate", plan.generate(config, base, f"{name}-base"), suite=suite)
    merged = plan.merge(base, run.scratch)
    export = run.step("export", "merge", merged, checkpoint=made["checkpoint"])
    tuned = plan.generate(config, resolve(export.label, project=root), f"{name}-tuned")
    run.step("tuned_answers", "generate", tuned, suite=suite, export=export)
    for side in ("base", "tuned"):
        answers = made[f"{side}_answers"]
        scores = plan.score(f"{name}-{side}", run_code=config.eval.run_code)
        run.step(f"{side}_scores", "score", scores, suite=suite, answers=answers)
    run.step(
        "report",
        "analyze",
        plan.analyze(config, name),
        suite=suite,
        dataset=made["dataset"],
        base=made["base_scores"],
        tuned=made["tuned_scores"],
    )
    return checkpoints


def fit(
    run: Run, base: ModelFiles, facts: Mapping[str, Any], *, allow_inexact: bool = False
) -> RunCheckpoints:
    """The training of the run's dataset, and what the manifest says of it; returns its checkpoints.

    `facts` are what the flight check measured.
    """
    training = plan.finetune(run.config, run.tiers.root, base, run.scratch)
    checkpoints, checkpoint = finetuned(run, replace(training, allow_inexact=allow_inexact))
    run.ledger.amend(
        student_model=checkpoint.body.base.name,
        tokens_trained=checkpoint.body.tokens_trained,
        label_tokens=checkpoint.body.label_tokens,
        method=method_name(checkpoint.body),
        seed=checkpoint.body.seed,
        template_sha256=checkpoint.body.template_sha256,
        mask_sha256=checkpoint.body.mask_sha256,
        inexact=_inexact(run, checkpoint),
        memory=_memory(run, facts),
    )
    return checkpoints


def finetuned(
    run: Run, spec: TrainSpec, *, arm: str = ""
) -> tuple[RunCheckpoints, Artifact[CheckpointBody]]:
    """The training, with its checkpoints where the next run of the same recipe finds them.

    `arm` is what the roles of dataset and checkpoint begin with, where a run trains two.
    """
    dataset = run.made[f"{arm}dataset"]
    recipe = recipe_of("finetune", spec, {"dataset": dataset})
    checkpoints = RunCheckpoints(run.tiers, recipe)
    commit = checkpoints.commit if checkpoints.has_second_place else None
    with checkpoints.held():
        placed = replace(spec, run_state=checkpoints.folder, commit=commit)
        return checkpoints, run.step(f"{arm}checkpoint", "finetune", placed, dataset=dataset)


def _inexact(run: Run, checkpoint: Artifact[CheckpointBody]) -> list[str]:
    """What had changed when the training went on all the same."""
    resolved = json.loads(run.tiers.store.path(checkpoint, "resolved.json").read_bytes())
    return [str(change) for change in resolved["inexact"]]


def _memory(run: Run, facts: Mapping[str, Any]) -> dict[str, int]:
    """What the check said of the memory, and what the training then took, where it was made now."""
    names = {"estimated": "estimated_memory_bytes", "rehearsed": "peak_bytes"}
    told = {name: int(facts[fact]) for name, fact in names.items() if fact in facts}
    if "checkpoint" in run.ledger.manifest.reused:
        return told
    peak = peak_bytes()
    before = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in told.items())
    beside = f" (by the check: {before})" if before else ""
    emit("note", text=f"the training took {peak / 1e9:.1f} GB of memory at its peak{beside}")
    return {**told, "peak": peak}


def _convert(run: Run) -> None:
    """The GGUF files that are to be published, where the gate lets them; parts of this run.

    A model that does not become GGUF is trained and evaluated all the same: the run is done.
    """
    section, export = run.config.publish, run.made["export"]
    if section is None or verdict_findings(run.made["report"]):
        return
    try:
        for role, spec in conversions(section, export, run.tiers, run.scratch):
            run.step(role, "convert", spec, export=export)
    except NexaError:
        close_scored(run)
        raise


def close_scored(run: Run) -> None:
    """The last facts: verdict, scores, cost. After this nothing changes the manifest."""
    report = run.made["report"].body
    gain = next(c.difference.mean for c in report.comparisons if c.metric == report.primary)
    run.meter(gain)
    run.ledger.amend(
        eval_status="done",
        verdict=report.verdict,
        eval_summary=summary_of_tuned(report),
    )
    deliver.finish(run)
    run.ledger.close("done")
    run.tiers.write(run.ledger.to_bytes(), f"manifests/{run.run_id}.json")
