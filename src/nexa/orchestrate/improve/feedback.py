"""`nexa feedback`: one pass without a training. Weak slices, rows against them, a new version.

The registry has the new version as the newest of its name, so `data.train_path: dataset/NAME` in
config.yaml trains on it next. Nothing says yet that it helps: `nexa improve` finds that out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nexa.core.config import Config, parse_config
from nexa.core.errors import BudgetSpent, ConfigError, UsageError
from nexa.core.manifest import RunManifest, find_manifest
from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, base_of, resolve
from nexa.orchestrate.improve import candidates as made_by
from nexa.orchestrate.improve.asked import Asked, Options, asked_of, pool_of
from nexa.orchestrate.improve.ground import Ground, held_out_of
from nexa.orchestrate.improve.judged import judged_for
from nexa.orchestrate.improve.round import rejected
from nexa.orchestrate.improve.scored import scored
from nexa.orchestrate.merge_data import Merged, merge_candidates
from nexa.orchestrate.models import run_of
from nexa.orchestrate.run_state import CONFIG, Run, opened

NEEDED = ("export", "checkpoint", "dataset", "suite")


@dataclass(frozen=True)
class WeakTold:
    """A weak slice of the rows for analysis."""

    name: str
    mean: float
    rows: int
    why: str


@dataclass(frozen=True)
class Fed:
    """What a pass came to; without a `dataset_after` the dataset stays as it is, and `why`."""

    run_id: str
    weak: list[WeakTold]
    dataset_before: str
    dataset_after: str | None = None
    added: int = 0
    rejected: dict[str, int] | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Subject:
    """The run whose model is looked at, by the config.yaml that it had."""

    manifest: RunManifest
    config_path: Path
    config: Config
    dataset: Artifact[DatasetBody]


def feedback(reference: str, options: Options, project: Path) -> Fed:
    """Look where a run's model is weak, and add rows against it to its dataset.

    `reference` is a run, or its beginning; `latest` is the newest that made a model.

    Raises:
        UsageError: no such run, or one that trained nothing; a rule of what a judge grades, and
            none has graded these answers.
        ConfigError: the config.yaml that it had is nowhere any more; no generator, pool or teacher.
        BudgetSpent: the budget does not reach for what the teacher may answer.
    """
    tiers = Tiers.of(project)
    subject = _subject(reference, tiers)
    asked = asked_of(options, subject.config.feedback)
    pool = pool_of(asked, subject.config, tiers.root)
    base = base_of(tiers.store.by_digest(subject.manifest.outputs["checkpoint"]), tiers.root)
    with opened(tiers, subject.config, subject.config_path, run_type="feedback") as run:
        dataset = subject.dataset
        run.ledger.amend(
            student_model=base.name,
            dataset_id=f"{dataset.name}@{dataset.version}",
            dataset_hash=dataset.digest,
            inputs={"model": subject.manifest.outputs["export"], "dataset": dataset.digest},
        )
        fed = _fed(run, subject, asked, pool, base)
        run.meter()
        run.ledger.close("done", eval_status="skipped")
    return fed


def _fed(run: Run, subject: _Subject, asked: Asked, pool: Path | None, base: ModelFiles) -> Fed:
    held_out = held_out_of(subject.manifest, run.tiers)
    ground = Ground(
        subject.config_path, subject.config, run.tiers, base, held_out, asked.analysis_share
    )
    weakness = _weakness(run, subject, ground, asked)
    weak = [
        WeakTold(f"{one.by}={one.value}", one.found.mean, one.found.n, one.why)
        for one in weakness.body.slices
        if one.weak
    ]
    before = subject.dataset.label
    if not weak:
        return Fed(run.run_id, [], before, why=f"no slice of {len(weakness.body.slices)} is weak")
    try:
        offered = _offered(run, subject, ground, asked, pool, weakness)
    except made_by.NoCandidates as none:
        return Fed(run.run_id, weak, before, why=f"there are no candidates: {none.what}")
    merged = merge_candidates(run, subject.dataset, offered, base, suite=ground.guard(run))
    left_out = rejected(merged, offered, run.made.get("synthetic"))
    if merged.dataset.digest == subject.dataset.digest:
        return Fed(run.run_id, weak, before, rejected=left_out, why=merged.why)
    _note(run, merged)
    after = merged.dataset.label
    return Fed(run.run_id, weak, before, after, sum(merged.added.values()), left_out)


def _weakness(run: Run, subject: _Subject, ground: Ground, asked: Asked) -> Artifact[WeaknessBody]:
    """On the rows for analysis alone, so that the others stay fit to judge what comes of it."""
    suite = run.step("analysis_suite", "freeze", ground.part("analysis"), dataset=ground.held_out)
    export = run.tiers.store.by_digest(subject.manifest.outputs["export"])
    model = resolve(export.label, project=run.tiers.root)
    scores = scored(run, model, export, suite, side="analysis", name=ground.name)
    spec = asked.weakness(f"{ground.name}-weakness", suite.body)
    answers = run.made["analysis_answers"]
    judged = judged_for(spec.rules, scores, answers, run.tiers.store)
    scores, judgements = judged or (scores, None)
    return run.step("weakness", "weakness", spec, suite=suite, scores=scores, judgements=judgements)


def _offered(
    run: Run,
    subject: _Subject,
    ground: Ground,
    asked: Asked,
    pool: Path | None,
    weakness: Artifact[WeaknessBody],
) -> Artifact[DatasetBody]:
    """Raises: NoCandidates: nobody has a row to offer."""
    dataset, config = subject.dataset, subject.config
    if asked.teacher is not None:
        answers = run.made["analysis_answers"]
        spec = made_by.proposal(asked, asked.teacher, dataset.name, run.tiers, seed=1)
        _require_budget(asked, made_by.most_usd(spec, run.tiers, weakness, dataset, answers).usd)
        if asked.budget_usd is not None:
            spec = made_by.limited(spec, asked.budget_usd)
        return made_by.written(run, spec, ground.base, weakness, dataset, answers)
    rows = made_by.pool_rows(pool, dataset.name, ground.base, config, run.scratch)
    return made_by.selected(
        run,
        run.step("pool", "prepare", rows),
        weakness,
        dataset,
        rows=asked.rows,
        seed=1,
        how=asked.generator,
    )


def _require_budget(asked: Asked, usd: float | None) -> None:
    if asked.budget_usd is not None and (usd or 0.0) > asked.budget_usd:
        raise BudgetSpent(
            f"the budget of {asked.budget_usd:g} USD does not reach for the teacher's answers",
            found=f"they may cost {usd:.4f} USD",
            fix="--rows with fewer, or a larger --budget-usd",
        )


def _note(run: Run, merged: Merged) -> None:
    dataset = merged.dataset
    run.ledger.amend(dataset_id=f"{dataset.name}@{dataset.version}", dataset_hash=dataset.digest)


def _subject(reference: str, tiers: Tiers) -> _Subject:
    run_id = run_of(reference, tiers) or reference
    manifest = find_manifest(tiers.manifests, run_id)
    lacking = [role for role in NEEDED if role not in manifest.outputs]
    if lacking:
        raise UsageError(
            f"run {manifest.run_id} made no model whose weaknesses could be looked for",
            found=f"it is a run of {manifest.run_type}, without {', '.join(lacking)}",
            fix="name a run that trained: nexa runs list",
        )
    path = _config_path(manifest, tiers)
    config = parse_config(path.read_text(encoding="utf-8"), name=CONFIG)
    dataset = tiers.store.by_digest(manifest.outputs["dataset"])
    return _Subject(manifest, path, config, dataset)


def _config_path(manifest: RunManifest, tiers: Tiers) -> Path:
    """The config.yaml that the run had, as the store keeps it."""
    digest = manifest.config_sha256 or ""
    path = tiers.store.blob(digest) if digest else None
    if path is None or not path.is_file():
        raise ConfigError(
            f"the config.yaml of run {manifest.run_id} is nowhere any more",
            found=f"sha256 {digest[:16]}" if digest else "it had none",
        )
    return path
