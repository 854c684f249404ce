"""`nexa eval` and `nexa compare`: score any model on a frozen suite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nexa.core.config import load_config
from nexa.core.errors import UsageError
from nexa.core.identity import slug
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, Comparison, ScoresBody, SuiteBody
from nexa.core.tiers import Tiers
from nexa.eval.compare import compare
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate import plan
from nexa.orchestrate.models import whole_model
from nexa.orchestrate.runner import run_step


@dataclass(frozen=True)
class Asked:
    """What a model is asked: a file of held-out rows, or a suite that is frozen already."""

    data: Path | None = None
    suite: str | None = None
    suite_digest: str | None = None
    rows: int = 64
    max_new_tokens: int = 160
    base_source: Literal["auto", "hub", "wheel"] = "auto"


def evaluate_model(reference: str, asked: Asked, project: Path) -> Artifact[ScoresBody]:
    """Answer and score; what was answered before by the same model is not asked again.

    Raises:
        UsageError: neither a file nor a suite is named, and there is no config.yaml to take one
            from.
    """
    tiers = Tiers.of(project)
    reference = run_of(reference, tiers)
    model = whole_model(reference, project=project, source=asked.base_source)
    return _scored(model, _suite(model, _asked_of(reference, asked, tiers), tiers), tiers)


def compare_models(a: str, b: str, asked: Asked, project: Path) -> list[Comparison]:
    """B minus A on the same frozen rows."""
    tiers = Tiers.of(project)
    names = [run_of(name, tiers) for name in (a, b)]
    models = [whole_model(name, project=project, source=asked.base_source) for name in names]
    suite = _suite(models[0], _asked_of(names[1], asked, tiers), tiers)
    first, second = (_scored(model, suite, tiers) for model in models)
    return compare(suite, first, second, store=tiers.store)


def run_of(reference: str, tiers: Tiers) -> str:
    """`latest` as the id of the newest run; anything else as it is."""
    return find_manifest(tiers.manifests, reference).run_id if reference == "latest" else reference


def _asked_of(reference: str, asked: Asked, tiers: Tiers) -> Asked:
    """A run is asked its own suite again, unless other rows are named."""
    if asked.suite or asked.data or not (tiers.manifests / f"{reference}.json").exists():
        return asked
    outputs = find_manifest(tiers.manifests, reference).outputs
    return replace(asked, suite_digest=outputs.get("suite"))


def _scored(model: ModelFiles, suite: Artifact[SuiteBody], tiers: Tiers) -> Artifact[ScoresBody]:
    name = slug(f"{model.name.rsplit('/', 1)[-1]}-{suite.name}")
    answers, _ = run_step(
        "generate", GenerateSpec(model=model, name=name), {"suite": suite}, store=tiers.store
    )
    scores, _ = run_step(
        "score", ScoreSpec(name=name), {"suite": suite, "answers": answers}, store=tiers.store
    )
    return scores


def _suite(model: ModelFiles, asked: Asked, tiers: Tiers) -> Artifact[Any]:
    """The suite that was named, frozen from the file that was, or that of config.yaml's data."""
    if asked.suite_digest is not None:
        return tiers.store.by_digest(asked.suite_digest)
    if asked.suite is not None:
        return tiers.store.get("suite", asked.suite)
    if asked.data is not None:
        name = slug(asked.data.resolve().stem)
        rows = plan.eval_rows(asked.data, model, f"{name}-eval")
        freeze = FreezeSpec(name=name, rows=asked.rows, max_new_tokens=asked.max_new_tokens)
    else:
        path = tiers.root / "config.yaml"
        config = load_config(path) if path.exists() else None
        if config is None or config.data.eval_path is None:
            raise UsageError(
                "nothing to ask: no held-out rows are named",
                fix="--data FILE, --suite NAME, or a config.yaml with data.eval_path here",
            )
        rows = plan.held_out(config, tiers.root, model)
        freeze = plan.freeze(config, tiers.root)
    dataset, _ = run_step("prepare", rows, {}, store=tiers.store)
    suite, _ = run_step("freeze", freeze, {"dataset": dataset}, store=tiers.store)
    return suite
