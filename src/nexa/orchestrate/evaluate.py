"""`nexa eval` and `nexa compare`: score any model on a frozen suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from nexa.lm.resolve import ALIASES, ModelFiles, Source
from nexa.orchestrate import plan
from nexa.orchestrate.models import run_of, whole_model
from nexa.orchestrate.runner import run_step

ROWS = 64
MAX_NEW_TOKENS = 160


@dataclass(frozen=True)
class Asked:
    """What a model is asked: a file of held-out rows, or a suite that is frozen already.

    With neither, a run is asked its own suite again, and any other model the rows that the
    config.yaml here holds out. `rows` and `max_new_tokens` are for a file.
    """

    data: Path | None = None
    suite: str | None = None
    rows: int | None = None
    max_new_tokens: int | None = None
    base_source: Source = "auto"

    def __post_init__(self) -> None:
        if self.data is not None and self.suite is not None:
            raise UsageError("--data and --suite both say what is asked", fix="leave one out")
        if self.data is None and (self.rows or self.max_new_tokens):
            raise UsageError(
                "--rows and --max-new-tokens are for rows that are frozen now",
                found="a suite that is frozen already has its own",
                fix="--data FILE",
            )


@dataclass(frozen=True)
class _Exam:
    """A frozen suite, and in which batches it is answered: both are part of a score's seal."""

    suite: Artifact[SuiteBody]
    batch_size: int = GenerateSpec.batch_size


def evaluate_model(reference: str, asked: Asked, project: Path) -> Artifact[ScoresBody]:
    """Answer and score; what was answered before by the same model is not asked again.

    Raises:
        UsageError: nothing says what to ask: no file, no suite, no run, no config.yaml.
        ModelError: no such model.
    """
    tiers = Tiers.of(project)
    reference = run_of(reference, tiers) or reference
    model = whole_model(reference, project=project, source=asked.base_source)
    return _scored(model, _exam([reference], model, asked, tiers), tiers)


def compare_models(a: str, b: str, asked: Asked, project: Path) -> list[Comparison]:
    """B minus A on the same frozen rows.

    Raises:
        UsageError: as `evaluate_model`.
        ModelError: no such model.
    """
    tiers = Tiers.of(project)
    a, b = (run_of(name, tiers) or name for name in (a, b))
    sources = sources_of_both(a, b, asked.base_source)
    models = [
        whole_model(name, project=project, source=source)
        for name, source in zip((a, b), sources, strict=True)
    ]
    exam = _exam([b, a], models[0], asked, tiers)
    first, second = (_scored(model, exam, tiers) for model in models)
    return compare(exam.suite, first, second, store=tiers.store)


def sources_of_both(a: str, b: str, source: Source) -> tuple[Source, Source]:
    """For which of the two the option is meant: aliases, for what a run made has one source only.

    With no alias among them both get it, so that it is refused by name and never passed over.
    """
    if a in ALIASES or b in ALIASES:
        return source if a in ALIASES else "auto", source if b in ALIASES else "auto"
    return source, source


def _scored(model: ModelFiles, exam: _Exam, tiers: Tiers) -> Artifact[ScoresBody]:
    name = slug(f"{model.name.rsplit('/', 1)[-1]}-{exam.suite.name}")
    kind, _, digest = model.origin.partition(":")
    # With its record an export's answers stand in the lineage of its training, and are the run's.
    export = tiers.store.by_digest(digest) if kind == "export" else None
    answers, _ = run_step(
        "generate",
        GenerateSpec(model=model, name=name, batch_size=exam.batch_size),
        {"suite": exam.suite, "export": export},
        store=tiers.store,
    )
    scores, _ = run_step(
        "score", ScoreSpec(name=name), {"suite": exam.suite, "answers": answers}, store=tiers.store
    )
    return scores


def _exam(references: list[str], model: ModelFiles, asked: Asked, tiers: Tiers) -> _Exam:
    """What was named; else the suite of the first run among the references; else config.yaml's."""
    if asked.suite is not None:
        return _Exam(tiers.store.get("suite", asked.suite))
    if asked.data is not None:
        return _Exam(_frozen_file(asked.data, asked, model, tiers))
    for reference in references:
        run_id = run_of(reference, tiers)
        outputs = find_manifest(tiers.manifests, run_id).outputs if run_id else {}
        if "suite" in outputs and "base_answers" in outputs:
            decoding = tiers.store.by_digest(outputs["base_answers"]).body.decoding
            return _Exam(tiers.store.by_digest(outputs["suite"]), decoding["batch_size"])
    return _configured(tiers)


def _frozen_file(data: Path, asked: Asked, model: ModelFiles, tiers: Tiers) -> Artifact[Any]:
    name = slug(data.resolve().stem)
    freeze = FreezeSpec(
        name=name,
        rows=asked.rows or ROWS,
        max_new_tokens=asked.max_new_tokens or MAX_NEW_TOKENS,
    )
    return _frozen(plan.eval_rows(data, model, f"{name}-eval"), freeze, tiers)


def _configured(tiers: Tiers) -> _Exam:
    """The suite that a training run of config.yaml freezes, equal to its own."""
    path = tiers.root / "config.yaml"
    if not path.exists():
        raise UsageError(
            "nothing to ask: no held-out rows are named",
            fix="--data FILE, --suite NAME, or a config.yaml here",
        )
    config = load_config(path)
    base = plan.base_model(config, tiers)
    held_out = plan.training_rows if config.data.eval_path is None else plan.held_out
    rows = held_out(config, tiers.root, base)
    suite = _frozen(rows, plan.freeze(config, tiers.root), tiers)
    return _Exam(suite, config.eval.batch_size)


def _frozen(rows: Any, freeze: FreezeSpec, tiers: Tiers) -> Artifact[Any]:
    dataset, _ = run_step("prepare", rows, {}, store=tiers.store)
    suite, _ = run_step("freeze", freeze, {"dataset": dataset}, store=tiers.store)
    return suite
