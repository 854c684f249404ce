"""`nexa improve --dry-run`: what is weak now, who would be asked, how long and for how much.

Nothing is made: what is not known yet, because no model was trained or asked, is told as unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.config import load_config
from nexa.core.errors import UsageError
from nexa.core.identity import sha256_file
from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.records import Artifact, WeaknessBody
from nexa.core.tiers import Tiers
from nexa.data.detect import count_rows
from nexa.data.sources import files_of
from nexa.lm.resolve import resolve
from nexa.orchestrate import plan
from nexa.orchestrate.improve import ground as grounds
from nexa.orchestrate.improve.asked import Asked, Options, asked_of, pool_of
from nexa.orchestrate.improve.book import read_book
from nexa.orchestrate.improve.candidates import NoCandidates, most_usd, proposal
from nexa.orchestrate.improve.ground import Ground
from nexa.orchestrate.improve.spending import HOUR_S, seconds_of
from nexa.orchestrate.publishing.source import EVIDENCE
from nexa.orchestrate.runner import recipe_of

UNKNOWN = "not known yet: the model has not answered the rows for analysis"


def preview_improvement(config_path: Path, options: Options) -> dict[str, Any]:
    """The plan of `nexa improve`, by name and number; `weak` has the weak slices, the worst first.

    Raises:
        NexaError: what would stop the pass before it begins.
    """
    config = load_config(config_path)
    tiers = Tiers.of(config_path.parent)
    asked = asked_of(options, config.feedback)
    pool = pool_of(asked, config, tiers.root)
    plan.check_here(config, tiers)
    base = plan.base_model(config, tiers)
    newest = _newest(config_path, tiers)
    ground = weakness = None
    if newest is not None:
        held_out = grounds.held_out_of(newest, tiers)
        ground = Ground(config_path, config, tiers, base, held_out, asked.analysis_share)
        weakness = _weakness(ground, newest, asked)
    seconds = _seconds(newest, config_path, tiers)
    price = config.infra.cost_per_hour_usd
    planned: dict[str, Any] = {
        "model": f"{base.name} ({base.origin})",
        "round 0": f"run {newest.run_id}" if newest else "config.yaml is trained first",
        "rounds": f"at most {asked.rounds}, {asked.rows} candidates each",
        "generator": asked.generator,
        "candidates": _candidates(asked, pool),
        "teacher": _teacher(asked, ground, newest, weakness),
        "time a round": "as long as nexa train takes" if seconds is None else f"{seconds:.0f} s",
        "machine": f"{price:g} USD an hour",
        "budget": "none" if asked.budget_usd is None else f"{asked.budget_usd:g} USD",
        "what is weak": _told(weakness),
        "weak": [],
    }
    if weakness is not None:
        planned["weak"] = [
            [f"{one.by}={one.value}", f"{one.found.mean:.3f}", one.found.n]
            for one in weakness.body.slices
            if one.weak
        ]
    if seconds is not None:
        planned["machine a round"] = f"{seconds / HOUR_S * price:.4f} USD"
    return planned


def _newest(config_path: Path, tiers: Tiers) -> RunManifest | None:
    """The run whose model the next round would begin with, as far as the ledger tells."""
    digest = sha256_file(config_path)
    accepted = read_book(tiers, digest).accepted
    runs = [
        run
        for run in list_manifests(tiers.manifests)
        if (run.status, run.config_sha256) == ("done", digest)
        and set(EVIDENCE) <= set(run.outputs)
        and run.run_type in ("train", "improve")
    ]
    if accepted is not None:
        return next((run for run in runs if run.run_id == accepted.run_id), None)
    return runs[-1] if runs else None


def _weakness(ground: Ground, newest: RunManifest, asked: Asked) -> Artifact[WeaknessBody] | None:
    """What was found before by equal recipes; None where a step of it was not made yet."""
    store = ground.store
    suite = store.made_by(
        recipe_of("freeze", ground.part("analysis"), {"dataset": ground.held_out})
    )
    if suite is None:
        return None
    export = store.by_digest(newest.outputs["export"])
    model = resolve(export.label, project=ground.tiers.root)
    asks = plan.generate(ground.config, model, f"{ground.name}-analysis")
    answers = store.made_by(recipe_of("generate", asks, {"suite": suite, "export": export}))
    mark = plan.score(f"{ground.name}-analysis")
    given: dict[str, Any] = {"suite": suite, "answers": answers}
    scores = store.made_by(recipe_of("score", mark, given)) if answers else None
    spec = asked.weakness(f"{ground.name}-weakness", suite.body)
    given = {"suite": suite, "scores": scores}
    return store.made_by(recipe_of("weakness", spec, given)) if scores else None


def _told(weakness: Artifact[WeaknessBody] | None) -> str:
    if weakness is None:
        return UNKNOWN
    slices = weakness.body.slices
    return f"{sum(one.weak for one in slices)} of {len(slices)} slices"


def _candidates(asked: Asked, pool: Path | None) -> str:
    if pool is None:
        return "what the teacher writes"
    rows = sum(count_rows(file) for file in files_of(pool))
    return f"{rows:,} rows in {pool.name}"


def _teacher(
    asked: Asked,
    ground: Ground | None,
    newest: RunManifest | None,
    weakness: Artifact[WeaknessBody] | None,
) -> str:
    """Who is asked, and for how much at most in the next round."""
    if asked.teacher is None:
        return "none is asked"
    if ground is None or newest is None or weakness is None:
        return f"{asked.teacher.label}; what it costs is known when it is known what is weak"
    spec = proposal(asked, asked.teacher, "preview", ground.tiers, seed=1, asks=False)
    dataset = ground.store.by_digest(newest.outputs["dataset"])
    scores = ground.store.by_digest(weakness.inputs["scores"])
    answers = ground.store.by_digest(scores.inputs["answers"])
    try:
        most = most_usd(spec, ground.tiers, weakness, dataset, answers)
    except (NoCandidates, UsageError) as none:  # which the next round would end with
        return f"{asked.teacher.label} has nothing to be asked: {none.what}"
    cost = "at an unknown price" if most.usd is None else f"{most.usd:.4f} USD at most"
    return f"{most.teacher}: {most.requests} requests, {cost}"


def _seconds(newest: RunManifest | None, config_path: Path, tiers: Tiers) -> float | None:
    """How long the last training took, with its answers; None: there was none."""
    if newest is None:
        return None
    return seconds_of(tiers.logs / f"{newest.run_id}.jsonl")
