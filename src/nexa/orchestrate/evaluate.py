"""`nexa eval` and `nexa compare`: score any model on a frozen suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.config import load_config
from nexa.core.errors import EvalError, ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, Comparison, ExportBody, ScoresBody, SuiteBody
from nexa.core.tiers import Tiers
from nexa.data.prepare import PrepareSpec
from nexa.eval.compare import compare
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.eval.suite import FreezeSpec
from nexa.lm.local import Engine, common_engine
from nexa.lm.resolve import ALIASES, ModelFiles, Source, find_again, resolve
from nexa.orchestrate import plan
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.models import exports, run_of, sealed_export, whole_model
from nexa.orchestrate.run_state import CONFIG, Run, opened_beside

ROWS = 64
MAX_NEW_TOKENS = 160


@dataclass(frozen=True)
class Asked:
    """What a model is asked, and by which engine: a file of held-out rows, or a frozen suite.

    With neither, a run is asked its own suite again, and any other model the rows that the
    config.yaml here holds out. `rows` and `max_new_tokens` are for a file.
    """

    data: Path | None = None
    suite: str | None = None
    rows: int | None = None
    max_new_tokens: int | None = None
    base_source: Source = "auto"
    engine: Engine = "auto"

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


@dataclass(frozen=True)
class Evaluated:
    """A model's scores, and beside those of the first model that was named with it."""

    scores: Artifact[ScoresBody]
    minus_first: list[Comparison] | None = None
    """Metric by metric; None for the first model, and where the two were not asked alike."""


def evaluate_model(reference: str, asked: Asked, project: Path) -> Artifact[ScoresBody]:
    """Answer and score, as a run with its manifest; what was answered before is not asked again.

    A name that leads nowhere is refused before there is a run; whatever fails after that closes
    the run's manifest as failed.

    Raises:
        UsageError: nothing says what to ask: no file, no suite, no run, no config.yaml.
        ModelError: no such model, or one that the engine asked for cannot answer for.
        MissingExtra: llama.cpp is asked for, and is not installed.
    """
    return evaluate_models([reference], asked, project)[0].scores


def evaluate_models(
    references: Sequence[str], asked: Asked, project: Path, *, parents: bool = False
) -> list[Evaluated]:
    """As `evaluate_model`, for models on the same rows and by the same engine, in one run.

    With `parents` the one that is named, then those that it was made from.

    Raises:
        UsageError: as `evaluate_model`; parents of several models.
        ModelError: as `evaluate_model`; a model that nothing is known of, or a parent that is not
            where it was.
    """
    tiers = Tiers.of(project)
    references = [run_of(name, tiers) or name for name in references]
    models = _whole_models(references, asked.base_source, project)
    if parents:
        models += _parents(references, models, tiers)
    exam = _exam(references, models[0], asked, tiers)
    sides = {"" if i == 0 else f"m{i + 1}_": model for i, model in enumerate(models)}
    with _opened(tiers, sides, subject=models[0]) as run:
        suite = _suite(run, exam)
        first, *others = _all_scored(run, sides, suite, exam.batch_size, asked.engine)
        made = [Evaluated(first), *(_beside(run, suite, first, other) for other in others)]
        _close(run, first)
    return made


def compare_models(a: str, b: str, asked: Asked, project: Path) -> list[Comparison]:
    """B minus A on the same frozen rows, as a run with its manifest.

    Raises:
        UsageError: as `evaluate_model`.
        ModelError: as `evaluate_model`.
        EvalError: the two were not asked alike.
    """
    tiers = Tiers.of(project)
    a, b = (run_of(name, tiers) or name for name in (a, b))
    first, second = _whole_models([a, b], asked.base_source, project)
    exam = _exam([b, a], first, asked, tiers)
    sides = {"a_": first, "b_": second}
    with _opened(tiers, sides, subject=second) as run:
        suite = _suite(run, exam)
        before, after = _all_scored(run, sides, suite, exam.batch_size, asked.engine)
        compared = compare(suite, before, after, store=tiers.store)
        _close(run, after)
    return compared


# -- models --------------------------------------------------------------------------------------


def _whole_models(references: Sequence[str], source: Source, project: Path) -> list[ModelFiles]:
    return [
        whole_model(name, project=project, source=own)
        for name, own in zip(references, sources_of(references, source), strict=True)
    ]


def sources_of(references: Sequence[str], source: Source) -> list[Source]:
    """For which of them the option is meant: aliases, for what a run made has one source only.

    With no alias among them all get it, so that it is refused by name and never passed over.
    """
    aliases = [name in ALIASES for name in references]
    return [source if alias or not any(aliases) else "auto" for alias in aliases]


def _parents(
    references: Sequence[str], models: Sequence[ModelFiles], tiers: Tiers
) -> list[ModelFiles]:
    """The models that the one model was made from, as its record names them."""
    if len(models) > 1:
        raise UsageError("--parents are those of one model", found=f"{len(models)} models")
    export = _record_of(models[0], tiers)
    if export is None:
        raise ModelError(
            f"nothing here says what {references[0]} was made from",
            fix="name an export of this project, or each of the models",
        )
    source = export.inputs.get("export")
    if source is not None:  # a conversion
        return [resolve(tiers.store.by_digest(source).label, project=tiers.root)]
    body = export.body
    refs = [body.base] if body.parents is None else body.parents
    return [find_again(ref, f"{export.label} was made from", tiers.root) for ref in refs]


def _record_of(model: ModelFiles, tiers: Tiers) -> Artifact[ExportBody] | None:
    """The export that a model is, by its name or by its files."""
    kind, _, digest = model.origin.partition(":")
    if kind == "export":
        return tiers.store.by_digest(digest)
    if model.gguf is None:
        return sealed_export(model, tiers.store)
    made = exports(tiers.store)
    return next((export for export in made if model.source_sha256 in export.files.values()), None)


# -- the run -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(tiers: Tiers, sides: Mapping[str, ModelFiles], subject: ModelFiles) -> Iterator[Run]:
    """The evaluation's run, which names what is evaluated."""
    with opened_beside(tiers, run_type="eval") as run:
        inputs = {f"{side}model": model.digest for side, model in sides.items()}
        run.ledger.amend(student_model=subject.name, inputs=inputs)
        yield run


def _close(run: Run, scores: Artifact[ScoresBody]) -> None:
    summary = {name: found.mean for name, found in scores.body.metrics.items()}
    run.meter()
    run.ledger.close("done", eval_status="done", eval_summary=summary)
    keep_manifest(run.tiers, run.ledger)


def _all_scored(
    run: Run,
    sides: Mapping[str, ModelFiles],
    suite: Artifact[SuiteBody],
    batch_size: int,
    asked: Engine,
) -> list[Artifact[ScoresBody]]:
    """Each model's scores, all of them by the same engine."""
    engine = common_engine(list(sides.values()), dtype=GenerateSpec.dtype, engine=asked)
    return [
        _scored(run, model, suite, batch_size, engine, side=side) for side, model in sides.items()
    ]


def _scored(
    run: Run,
    model: ModelFiles,
    suite: Artifact[SuiteBody],
    batch_size: int,
    engine: Engine,
    *,
    side: str,
) -> Artifact[ScoresBody]:
    name = slug(f"{model.name.rsplit('/', 1)[-1]}-{suite.name}")
    kind, _, digest = model.origin.partition(":")
    # With its record an export's answers stand in the lineage of its training, and are the run's.
    export = run.tiers.store.by_digest(digest) if kind == "export" else None
    spec = GenerateSpec(model=model, name=name, batch_size=batch_size, engine=engine)
    answers = run.step(f"{side}answers", "generate", spec, suite=suite, export=export)
    return run.step(f"{side}scores", "score", ScoreSpec(name=name), suite=suite, answers=answers)


def _beside(
    run: Run,
    suite: Artifact[SuiteBody],
    first: Artifact[ScoresBody],
    other: Artifact[ScoresBody],
) -> Evaluated:
    """A model minus the first one; two that were asked in different words stay by themselves."""
    try:
        return Evaluated(other, compare(suite, first, other, store=run.tiers.store))
    except EvalError as error:
        named = f"{other.body.model.name} is not compared with {first.body.model.name}"
        emit("note", text=f"{named}: {error.what}", reason=error.found)
        return Evaluated(other)


# -- what is asked -------------------------------------------------------------------------------


def _suite(run: Run, exam: _Exam) -> Artifact[SuiteBody]:
    """The frozen suite: the one that was named, or one that is frozen now."""
    if exam.suite is not None:
        run.ledger.amend(inputs={**run.ledger.manifest.inputs, "suite": exam.suite.digest})
        return exam.suite
    dataset = run.step("eval_dataset", "prepare", exam.rows)
    return run.step("suite", "freeze", exam.freeze, dataset=dataset)


def _exam(references: Sequence[str], model: ModelFiles, asked: Asked, tiers: Tiers) -> _Exam:
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
