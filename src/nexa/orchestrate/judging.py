"""`nexa judge`: answers graded by a model, alone, beside others', and beside people's labels.

What the judge said is kept in .nexa/requests/RECIPE.jsonl: the same command reads it first and asks
for the rest, so nothing is paid for twice, whatever becomes of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nexa.core.errors import NexaError, UsageError
from nexa.core.events import emit
from nexa.core.identity import slug
from nexa.core.records import (
    AgreementBody,
    AnswersBody,
    Artifact,
    JudgementsBody,
    ReportBody,
    ScoresBody,
)
from nexa.core.safety import summary_of_tuned
from nexa.core.scoring import read_rows
from nexa.core.tiers import Tiers
from nexa.eval import judge as absolute
from nexa.eval import pairwise
from nexa.eval.agreement import AgreeSpec, LabelFile, read_labels
from nexa.eval.judge import JudgeSpec
from nexa.eval.judged import ScoreJudgedSpec
from nexa.eval.own_judge import is_own_judge, refuse_own
from nexa.eval.pairwise import PairSpec, Tally, tally
from nexa.eval.rubrics.reading import DEFAULT, load_rubric
from nexa.eval.rubrics.rubric import Rubric
from nexa.eval.suite import read_suite
from nexa.eval.verdicts import Decoding, prompt_hash
from nexa.lm.journal import read_journal
from nexa.lm.requests import estimate
from nexa.lm.teaching import Teacher
from nexa.orchestrate import plan
from nexa.orchestrate.evaluate import Asked, close
from nexa.orchestrate.judge_subject import BASE, TUNED, Subject, subject_of
from nexa.orchestrate.leaderboards import enter
from nexa.orchestrate.liveness import keep_manifest
from nexa.orchestrate.run_state import Run, opened_beside
from nexa.orchestrate.runner import recipe_of
from nexa.orchestrate.teaching import Choice, Preview, asked_again, open_teacher

JUDGE, PAIRS = "judge", "judge_pairs"
Spec = JudgeSpec | PairSpec


@dataclass(frozen=True)
class Judging:
    """How answers are judged, and beside what."""

    rubric: str = DEFAULT
    decoding: Decoding = field(default_factory=Decoding)
    against: str | None = None
    """Answers to the same suite: of a run, a model, answers/NAME; `base`: those of the run's
    base. The two are compared pair by pair instead of graded."""
    labels: Path | None = None
    allow_self_judge: bool = False


@dataclass(frozen=True)
class Graded:
    """One model's answers, graded."""

    judgements: Artifact[JudgementsBody]
    scores: Artifact[ScoresBody]
    agreement: Artifact[AgreementBody] | None = None


@dataclass(frozen=True)
class Judged:
    """What came of it: models graded, with the report of a training's two, or pairs."""

    run_id: str
    graded: tuple[Graded, ...] = ()
    report: Artifact[ReportBody] | None = None
    pairs: Artifact[JudgementsBody] | None = None
    tallies: tuple[Tally, ...] = ()


@dataclass(frozen=True)
class _Job:
    """A step that asks the judge: what it is made from, and the role of what it makes."""

    step: str
    role: str
    spec: Spec
    inputs: Mapping[str, Artifact[Any]]


def judge_answers(
    reference: str | None, how: Judging, choice: Choice, asked: Asked, project: Path
) -> Judged:
    """Grade the answers of a run, a model or a name; or compare them with others, pair by pair.

    Of a training run both sides are graded and compared in a report.

    Raises:
        ConfigError: a rubric with mistakes.
        EvalError: a model would judge itself, or no verdict can be read.
        BudgetSpent: the budget does not reach for all; what was answered is kept.
    """
    tiers = Tiers.of(project)
    rubric = load_rubric(how.rubric)
    teacher = open_teacher(choice, tiers.root)
    labels = _labels(how, rubric)
    subject = subject_of(reference, asked, project, answer=True)
    _require_whose(labels, rubric, subject)
    other = _other(how, subject, asked, project, answer=True)
    with opened_beside(tiers, run_type="eval") as run:
        run.ledger.amend(
            student_model=subject.main.body.model.name,
            judge_model_id=teacher.name,
            judge_prompt_hash=prompt_hash("absolute" if other is None else "pairwise"),
            seed=how.decoding.seed,
            inputs={"suite": subject.suite.digest},
        )
        jobs = _jobs(subject, other, teacher, rubric, how)
        made = _all_asked(run, _placed(jobs, tiers, choice.budget_usd))
        if other is not None:
            return _compared(run, made[PAIRS], subject, rubric)
        return _graded(run, made, subject, labels)


def preview_judging(
    reference: str | None, how: Judging, choice: Choice, asked: Asked, project: Path
) -> list[Preview]:
    """What judging would take at most, job by job; nothing is sent, nothing is written.

    Raises:
        UsageError: a model that has not answered yet.
    """
    tiers = Tiers.of(project)
    rubric = load_rubric(how.rubric)
    teacher = open_teacher(choice, tiers.root, asks=False)
    subject = subject_of(reference, asked, project, answer=False)
    other = _other(how, subject, asked, project, answer=False)
    found = []
    for job in _placed(_jobs(subject, other, teacher, rubric, how), tiers, None):
        own = absolute if job.step == JUDGE else pairwise
        requests = own.requests_of(job.spec, **job.inputs, store=tiers.store)
        most = estimate(teacher.model, requests, journal=job.spec.judge.journal)
        price = teacher.model.price
        found.append(
            Preview(
                teacher=teacher.name,
                rows=subject.suite.body.rows,
                requests=most.requests,
                cached=most.cached,
                input_tokens=most.input_tokens,
                output_tokens=most.output_tokens,
                usd=most.usd,
                price_source=price.source if price else None,
            )
        )
    return found


# -- what is asked -------------------------------------------------------------------------------


def _labels(how: Judging, rubric: Rubric) -> LabelFile | None:
    """The file of labels, read once before anybody is asked.

    Raises:
        DataError: it has mistakes.
        UsageError: pairs, which have no levels.
    """
    if how.labels is None:
        return None
    if how.against is not None:
        raise UsageError("--labels grade answers one by one", fix="leave out --against")
    found = LabelFile.of(how.labels)
    read_labels(found.path.read_bytes(), rubric, name=found.name)
    return found


def _require_whose(labels: LabelFile | None, rubric: Rubric, subject: Subject) -> None:
    """Refuse labels that might be set beside answers of a model that they do not grade.

    Raises:
        UsageError: several models answered, and a label does not say which answer it grades.
    """
    if labels is None or len(subject.sides) == 1:
        return
    read = read_labels(labels.path.read_bytes(), rubric, name=labels.name)
    if any(label.answer_sha256 is None for label in read):
        raise UsageError(
            f"{labels.name} does not say whose answers it grades, and {len(subject.sides)} models "
            "answered",
            fix="name the answers that were graded, answers/NAME, or give each label its "
            "answer_sha256",
        )


def _other(
    how: Judging, subject: Subject, asked: Asked, project: Path, *, answer: bool
) -> Artifact[AnswersBody] | None:
    """The answers to compare with.

    Raises:
        UsageError: they answer another suite.
    """
    if how.against is None:
        return None
    if how.against == "base" and BASE in subject.sides:
        return subject.sides[BASE]
    same = Asked(suite=subject.suite.label, base_source=asked.base_source, engine=asked.engine)
    other = subject_of(how.against, same, project, answer=answer).main
    if other.body.suite_digest != subject.suite.digest:
        raise UsageError(
            f"{how.against} answered another suite, and pairs need the same questions",
            found=f"{other.label} answers another than {subject.suite.label}",
            fix=f"nexa eval MODEL --suite {subject.suite.label}",
        )
    return other


def _jobs(
    subject: Subject,
    other: Artifact[AnswersBody] | None,
    teacher: Teacher,
    rubric: Rubric,
    how: Judging,
) -> list[_Job]:
    """One for each side, or one for the pairs; before any is asked, nobody judges themselves."""
    judged = [subject.main, other] if other is not None else list(subject.sides.values())
    for answers in judged:
        if not how.allow_self_judge and is_own_judge(teacher, answers.body):
            refuse_own(teacher.name, answers.body.model.name, allowed=False)
    by = slug(f"{teacher.name}-{rubric.name}")
    if other is not None:
        pair = PairSpec(
            teacher,
            rubric,
            name=slug(f"{subject.main.name}-{other.name}-{by}"),
            decoding=how.decoding,
            allow_self_judge=how.allow_self_judge,
        )
        inputs = {"suite": subject.suite, "answers": subject.main, "other": other}
        return [_Job(PAIRS, PAIRS, pair, inputs)]
    return [
        _Job(
            JUDGE,
            f"{side}judgements",
            JudgeSpec(
                teacher,
                rubric,
                name=slug(f"{answers.name}-{by}"),
                decoding=how.decoding,
                allow_self_judge=how.allow_self_judge,
            ),
            {"suite": subject.suite, "answers": answers},
        )
        for side, answers in subject.sides.items()
    ]


def _placed(jobs: Sequence[_Job], tiers: Tiers, budget_usd: float | None) -> list[_Job]:
    """The jobs with their journal, which is one: equal answers are judged once.

    It is the same however often is asked again, and the budget is that of all jobs together.
    """
    inputs = {
        f"{job.role}_{role}": artifact for job in jobs for role, artifact in job.inputs.items()
    }
    # Who is allowed to judge changes no verdict: leave that is given later pays for none again.
    spec = replace(jobs[0].spec, again=0, allow_self_judge=False)
    recipe = recipe_of(jobs[0].step, spec, inputs)
    journal = tiers.requests / f"{recipe}.jsonl"
    placed = []
    for job in jobs:
        teacher = job.spec.judge
        pace = replace(teacher.pace, budget_usd=budget_usd)
        judge = replace(teacher, journal=journal, pace=pace)
        spec = asked_again(job.step, replace(job.spec, judge=judge), job.inputs, tiers)
        placed.append(replace(job, spec=spec))
    return placed


def _all_asked(run: Run, jobs: Sequence[_Job]) -> dict[str, Artifact[JudgementsBody]]:
    """All judgements, made or found.

    Raises:
        BudgetSpent: the budget does not reach for the rest.
    """
    made: dict[str, Artifact[JudgementsBody]] = {}
    with _metered(run, jobs):
        for job in jobs:
            made[job.role] = run.step(job.role, job.step, job.spec, **job.inputs)
    if failed := sum(one.body.failed for one in made.values()):
        text = f"{failed:,} requests have no answer: the same command asks them again"
        emit("note", text=text)
    return made


@contextlib.contextmanager
def _metered(run: Run, jobs: Sequence[_Job]) -> Iterator[None]:
    """However the jobs end, the manifest has what was answered, and what that cost."""
    try:
        yield
    finally:
        found = run.ledger.manifest.reused
        if any(job.role not in found for job in jobs):
            with contextlib.suppress(NexaError):  # that the journal is broken is being told
                teacher = jobs[0].spec.judge
                entries = read_journal(teacher.journal)
                answers = entries.answers.values()
                sides = ("input", "output")
                tokens = {side: sum(a[f"{side}_tokens"] for a in answers) for side in sides}
                run.ledger.amend(teacher_tokens=tokens)
                if teacher.model.price:
                    run.teacher_usd = round(entries.paid_usd, 9)


# -- what came of it -----------------------------------------------------------------------------


def _graded(
    run: Run,
    made: Mapping[str, Artifact[JudgementsBody]],
    subject: Subject,
    labels: LabelFile | None,
) -> Judged:
    graded: dict[str, Graded] = {}
    for side, answers in subject.sides.items():
        judgements = made[f"{side}judgements"]
        inputs = {"suite": subject.suite, "judgements": judgements}
        spec = ScoreJudgedSpec(name=judgements.name)
        scores = run.step(f"{side}scores", "score_judged", spec, answers=answers, **inputs)
        agreement = None
        if labels is not None:
            agree = AgreeSpec(labels, name=judgements.name)
            agreement = run.step(f"{side}agreement", "agree", agree, **inputs)
        graded[side] = Graded(judgements, scores, agreement)
    report = None
    if subject.has_both:
        report = _reported(run, subject, graded)
    else:
        close(run, next(iter(graded.values())).scores)
    return Judged(run.run_id, tuple(graded.values()), report)


def _reported(run: Run, subject: Subject, graded: Mapping[str, Graded]) -> Artifact[ReportBody]:
    """The comparison of base and tuned by what the judge said, and the end of the run."""
    report: Artifact[ReportBody] = run.step(
        "report",
        "analyze",
        plan.analyze(run.config, graded[TUNED].scores.name),
        suite=subject.suite,
        dataset=subject.dataset,
        base=graded[BASE].scores,
        tuned=graded[TUNED].scores,
    )
    run.meter()
    enter(run)
    run.ledger.close(
        "done",
        eval_status="done",
        eval_summary=summary_of_tuned(report.body),
        verdict=report.body.verdict,
    )
    keep_manifest(run.tiers, run.ledger)
    return report


def _compared(
    run: Run, judgements: Artifact[JudgementsBody], subject: Subject, rubric: Rubric
) -> Judged:
    """Wins, ties and losses on each criterion and overall, and the end of the run."""
    tallies = tallies_of(judgements, subject, rubric, run.tiers)
    rates = {
        f"win_rate_{one.key}": one.win_rate.mean for one in tallies if one.win_rate is not None
    }
    run.meter()
    run.ledger.close("done", eval_status="done", eval_summary=rates)
    keep_manifest(run.tiers, run.ledger)
    return Judged(run.run_id, pairs=judgements, tallies=tallies)


def tallies_of(
    judgements: Artifact[JudgementsBody], subject: Subject, rubric: Rubric, tiers: Tiers
) -> tuple[Tally, ...]:
    """How the first model fared against the second, the primary criterion first."""
    rows = read_rows(tiers.store.path(judgements, "judgements.jsonl").read_bytes())
    groups = {q.id: q.group for q in read_suite(subject.suite, tiers.store)}
    names = sorted(rubric.metrics, key=lambda name: name != rubric.primary)
    return tuple(tally(rows, groups, name) for name in names)
