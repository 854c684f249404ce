"""`nexa eval` and `nexa compare`: score any model on a frozen suite."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import EvalError, ModelError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import Artifact, Comparison, ExportBody, ScoresBody, SuiteBody
from nexa.core.safety import summary_of
from nexa.core.store import Store
from nexa.core.tiers import Tiers
from nexa.eval.ask import model_ref
from nexa.eval.compare import compare
from nexa.eval.generate import GenerateSpec
from nexa.eval.metrics import ScoreSpec
from nexa.lm.local import Engine, common_engine
from nexa.lm.resolve import ALIASES, ModelFiles, Source, find_again, resolve
from nexa.lm.teaching import Teacher
from nexa.orchestrate.evaluate_api import (
    NO_TERMS,
    Terms,
    answers_of,
    api_names,
    opened_teacher,
    preview,
)
from nexa.orchestrate.exam import Asked, exam_of
from nexa.orchestrate.leaderboards import enter
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.models import exports, run_of, sealed_export, whole_model
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.orchestrate.teaching import Preview

Subject = ModelFiles | Teacher
__all__ = [
    "Asked",
    "Evaluated",
    "Terms",
    "compare_models",
    "evaluate_model",
    "evaluate_models",
    "preview_models",
    "sources_of",
]


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
    references: Sequence[str],
    asked: Asked,
    project: Path,
    *,
    parents: bool = False,
    terms: Terms = NO_TERMS,
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
    subjects = subjects_of(references, asked.base_source, terms, tiers)
    if parents:
        subjects += _parents(references, subjects, tiers)
    exam = exam_of(references, asked, tiers, _measure(subjects))
    sides = {"" if i == 0 else f"m{i + 1}_": subject for i, subject in enumerate(subjects)}
    with opened_for(tiers, sides, subject=subjects[0]) as run:
        suite = exam.frozen_in(run)
        first, *others = _all_scored(run, sides, suite, exam.batch_size, asked)
        made = [Evaluated(first), *(beside(run, suite, first, other) for other in others)]
        close(run, first)
    return made


def preview_models(
    references: Sequence[str], asked: Asked, terms: Terms, project: Path
) -> list[Preview]:
    """What the models of an API among them would take at most; nothing is sent or written.

    Raises:
        UsageError: none of them is one.
    """
    tiers = Tiers.of(project)
    references = [run_of(name, tiers) or name for name in references]
    subjects = subjects_of(references, asked.base_source, terms, tiers, asks=False)
    teachers = [subject for subject in subjects if isinstance(subject, Teacher)]
    if not teachers:
        raise UsageError(
            "a dry run tells what models of an API cost, and none is named",
            found=", ".join(references),
        )
    exam = exam_of(references, asked, tiers, _measure(subjects))
    aside = tiers.new_scratch("dry-run")
    try:
        store = tiers.store if exam.suite is not None else Store(aside)
        suite = exam.frozen_aside(store)
        return [preview(teacher, suite, tiers, store) for teacher in teachers]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def compare_models(
    a: str, b: str, asked: Asked, project: Path, terms: Terms = NO_TERMS
) -> list[Comparison]:
    """B minus A on the same frozen rows, as a run with its manifest.

    Raises:
        UsageError: as `evaluate_model`.
        ModelError: as `evaluate_model`.
        EvalError: the two were not asked alike.
    """
    tiers = Tiers.of(project)
    a, b = (run_of(name, tiers) or name for name in (a, b))
    first, second = subjects_of([a, b], asked.base_source, terms, tiers)
    exam = exam_of([b, a], asked, tiers, _measure([first, second]))
    sides = {"a_": first, "b_": second}
    with opened_for(tiers, sides, subject=second) as run:
        suite = exam.frozen_in(run)
        before, after = _all_scored(run, sides, suite, exam.batch_size, asked)
        compared = compare(suite, before, after, store=tiers.store)
        close(run, after)
    return compared


# -- models --------------------------------------------------------------------------------------


def subjects_of(
    references: Sequence[str], source: Source, terms: Terms, tiers: Tiers, *, asks: bool = True
) -> list[Subject]:
    """Models of an API opened, all others with their weights in place, in their order.

    Raises:
        ModelError: no such model.
        UsageError: terms for models of an API, and none is named.
        AccessError: an API whose key is not in the environment.
    """
    remote = set(api_names(references, terms))
    local = [name for name in references if name not in remote]
    own = dict(zip(local, sources_of(local, source), strict=True))
    return [
        opened_teacher(name, terms, tiers, asks=asks)
        if name in remote
        else whole_model(name, project=tiers.root, source=own[name])
        for name in references
    ]


def _measure(subjects: Sequence[Subject]) -> ModelFiles | None:
    """The model whose tokens a file's rows are measured in: the first of this machine."""
    return next((subject for subject in subjects if isinstance(subject, ModelFiles)), None)


def sources_of(references: Sequence[str], source: Source) -> list[Source]:
    """For which of them the option is meant: aliases, for what a run made has one source only.

    With no alias among them all get it, so that it is refused by name and never passed over.
    """
    aliases = [name in ALIASES for name in references]
    return [source if alias or not any(aliases) else "auto" for alias in aliases]


def _parents(
    references: Sequence[str], subjects: Sequence[Subject], tiers: Tiers
) -> list[ModelFiles]:
    """The models that the one model was made from, as its record names them."""
    if len(subjects) > 1:
        raise UsageError("--parents are those of one model", found=f"{len(subjects)} models")
    model = subjects[0]
    export = _record_of(model, tiers) if isinstance(model, ModelFiles) else None
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
def opened_for(tiers: Tiers, sides: Mapping[str, Subject], subject: Subject) -> Iterator[Run]:
    """The evaluation's run, which names what is evaluated."""
    with opened_beside(tiers, run_type="eval") as run:
        inputs = {
            f"{side}model": each.digest if isinstance(each, ModelFiles) else model_ref(each).digest
            for side, each in sides.items()
        }
        run.ledger.amend(student_model=subject.name, inputs=inputs)
        yield run


def close(run: Run, scores: Artifact[ScoresBody]) -> None:
    """The last facts of an evaluation's run: what it came to, what it cost."""
    body = scores.body
    summary = summary_of({**(body.corpus or {}), **body.metrics}, body.safety)
    run.meter()
    enter(run)
    run.ledger.close("done", eval_status="done", eval_summary=summary)
    keep_manifest(run.tiers, run.ledger)


def _all_scored(
    run: Run,
    sides: Mapping[str, Subject],
    suite: Artifact[SuiteBody],
    batch_size: int,
    asked: Asked,
) -> list[Artifact[ScoresBody]]:
    """Each model's scores, those of this machine all by the same engine."""
    local = [subject for subject in sides.values() if isinstance(subject, ModelFiles)]
    engine = asked.engine
    if local:
        engine = common_engine(local, dtype=GenerateSpec.dtype, engine=engine)
    run_code = asked.run_code or run.config.eval.run_code
    return [
        _scored(run, subject, suite, batch_size, engine, side=side, run_code=run_code)
        for side, subject in sides.items()
    ]


def _scored(
    run: Run,
    subject: Subject,
    suite: Artifact[SuiteBody],
    batch_size: int,
    engine: Engine,
    *,
    side: str,
    run_code: bool,
) -> Artifact[ScoresBody]:
    name = slug(f"{subject.name.rsplit('/', 1)[-1]}-{suite.name}")
    if isinstance(subject, Teacher):
        answers = answers_of(run, subject, suite, side=side, name=name)
    else:
        spec = GenerateSpec(
            model=subject,
            name=name,
            batch_size=batch_size,
            engine=engine,
            cost_per_hour_usd=run.config.infra.cost_per_hour_usd,
        )
        export = export_of(subject, run.tiers)
        answers = run.step(f"{side}answers", "generate", spec, suite=suite, export=export)
    scores = ScoreSpec(name=name, run_code=run_code)
    return run.step(f"{side}scores", "score", scores, suite=suite, answers=answers)


def export_of(model: ModelFiles, tiers: Tiers) -> Artifact[ExportBody] | None:
    """The record of a model that an export is: its answers stand in the lineage of its training."""
    kind, _, digest = model.origin.partition(":")
    return tiers.store.by_digest(digest) if kind == "export" else None


def beside(
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
