"""`nexa eval` and `nexa compare`: score any model on a frozen suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa.core.config import load_config
from nexa.core.errors import UsageError
from nexa.core.identity import slug
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, Comparison, ScoresBody, SuiteBody
from nexa.core.tiers import Tiers
from nexa.data.prepare import PrepareSpec
from nexa.eval.compare import compare
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.lm.local import Engine, common_engine
from nexa.lm.resolve import ALIASES, ModelFiles, Source
from nexa.orchestrate import plan
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.models import run_of, whole_model
from nexa.orchestrate.run_state import CONFIG, Run, opened_beside

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
    """What is asked, and in which batches: both are part of a score's seal.

    Either a suite that is frozen already, or the rows and the way to freeze one.
    """

    suite: Artifact[SuiteBody] | None = None
    rows: PrepareSpec | None = None
    freeze: FreezeSpec | None = None
    batch_size: int = GenerateSpec.batch_size


def evaluate_model(reference: str, asked: Asked, project: Path) -> Artifact[ScoresBody]:
    """Answer and score, as a run with its manifest; what was answered before is not asked again.

    A name that leads nowhere is refused before there is a run; whatever fails after that closes
    the run's manifest as failed.

    Raises:
        UsageError: nothing says what to ask: no file, no suite, no run, no config.yaml.
        ModelError: no such model.
    """
    tiers = Tiers.of(project)
    reference = run_of(reference, tiers) or reference
    model = whole_model(reference, project=project, source=asked.base_source)
    exam = _exam([reference], model, asked, tiers)
    with _opened(tiers, {"model": model}) as run:
        suite = _suite(run, exam)
        scores = _scored(run, model, suite, exam.batch_size)
        _close(run, {name: found.mean for name, found in scores.body.metrics.items()})
    return scores


def compare_models(a: str, b: str, asked: Asked, project: Path) -> list[Comparison]:
    """B minus A on the same frozen rows, as a run with its manifest.

    Raises:
        UsageError: as `evaluate_model`.
        ModelError: no such model.
        EvalError: the two were not asked alike.
    """
    tiers = Tiers.of(project)
    a, b = (run_of(name, tiers) or name for name in (a, b))
    sources = sources_of_both(a, b, asked.base_source)
    first, second = (
        whole_model(name, project=project, source=source)
        for name, source in zip((a, b), sources, strict=True)
    )
    exam = _exam([b, a], first, asked, tiers)
    with _opened(tiers, {"a_model": first, "b_model": second}) as run:
        suite = _suite(run, exam)
        engine = common_engine([first, second], dtype=GenerateSpec.dtype)
        before = _scored(run, first, suite, exam.batch_size, engine, side="a_")
        after = _scored(run, second, suite, exam.batch_size, engine, side="b_")
        compared = compare(suite, before, after, store=tiers.store)
        _close(run, {name: found.mean for name, found in after.body.metrics.items()})
    return compared


@contextlib.contextmanager
def _opened(tiers: Tiers, models: Mapping[str, ModelFiles]) -> Iterator[Run]:
    """The evaluation's run, which names what is evaluated."""
    last = list(models.values())[-1]
    with opened_beside(tiers, run_type="eval") as run:
        inputs = {role: model.digest for role, model in models.items()}
        run.ledger.amend(student_model=last.name, inputs=inputs)
        yield run


def _close(run: Run, summary: dict[str, float]) -> None:
    run.meter()
    run.ledger.close("done", eval_status="done", eval_summary=summary)
    keep_manifest(run.tiers, run.ledger)


def sources_of_both(a: str, b: str, source: Source) -> tuple[Source, Source]:
    """For which of the two the option is meant: aliases, for what a run made has one source only.

    With no alias among them both get it, so that it is refused by name and never passed over.
    """
    if a in ALIASES or b in ALIASES:
        return source if a in ALIASES else "auto", source if b in ALIASES else "auto"
    return source, source


def _scored(
    run: Run,
    model: ModelFiles,
    suite: Artifact[SuiteBody],
    batch_size: int,
    engine: Engine = "auto",
    *,
    side: str = "",
) -> Artifact[ScoresBody]:
    name = slug(f"{model.name.rsplit('/', 1)[-1]}-{suite.name}")
    kind, _, digest = model.origin.partition(":")
    # With its record an export's answers stand in the lineage of its training, and are the run's.
    export = run.tiers.store.by_digest(digest) if kind == "export" else None
    spec = GenerateSpec(model=model, name=name, batch_size=batch_size, engine=engine)
    answers = run.step(f"{side}answers", "generate", spec, suite=suite, export=export)
    return run.step(f"{side}scores", "score", ScoreSpec(name=name), suite=suite, answers=answers)


def _suite(run: Run, exam: _Exam) -> Artifact[SuiteBody]:
    """The frozen suite: the one that was named, or one that is frozen now."""
    if exam.suite is not None:
        run.ledger.amend(inputs={**run.ledger.manifest.inputs, "suite": exam.suite.digest})
        return exam.suite
    dataset = run.step("eval_dataset", "prepare", exam.rows)
    return run.step("suite", "freeze", exam.freeze, dataset=dataset)


def _exam(references: list[str], model: ModelFiles, asked: Asked, tiers: Tiers) -> _Exam:
    """What was named; else the suite of the first run among the references; else config.yaml's."""
    if asked.suite is not None:
        return _Exam(tiers.store.get("suite", asked.suite))
    if asked.data is not None:
        return _of_file(asked.data, asked, model)
    for reference in references:
        run_id = run_of(reference, tiers)
        outputs = find_manifest(tiers.manifests, run_id).outputs if run_id else {}
        if "suite" in outputs and "base_answers" in outputs:
            decoding = tiers.store.by_digest(outputs["base_answers"]).body.decoding
            suite = tiers.store.by_digest(outputs["suite"])
            return _Exam(suite, batch_size=decoding["batch_size"])
    return _configured(tiers)


def _of_file(data: Path, asked: Asked, model: ModelFiles) -> _Exam:
    name = slug(data.resolve().stem)
    freeze = FreezeSpec(
        name=name,
        rows=asked.rows or ROWS,
        max_new_tokens=asked.max_new_tokens or MAX_NEW_TOKENS,
    )
    return _Exam(rows=plan.eval_rows(data, model, f"{name}-eval"), freeze=freeze)


def _configured(tiers: Tiers) -> _Exam:
    """The suite that a training run of config.yaml freezes, equal to its own."""
    path = tiers.root / CONFIG
    if not path.exists():
        raise UsageError(
            "nothing to ask: no held-out rows are named",
            fix="--data FILE, --suite NAME, or a config.yaml here",
        )
    config = load_config(path)
    base = plan.base_model(config, tiers)
    held_out = plan.training_rows if config.data.eval_path is None else plan.held_out
    rows = held_out(config, tiers.root, base)
    freeze = plan.freeze(config, tiers.root)
    return _Exam(rows=rows, freeze=freeze, batch_size=config.eval.batch_size)
