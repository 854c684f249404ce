"""Scoring answers by rule: one line a row, means with intervals, and the seal of the ruler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.corpus_metrics import STATISTICS, derive_corpus
from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import AnswersBody, Artifact, Draft, ScoresBody, SuiteBody
from nexa.core.scoring import derive_scores, read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.likelihood import likelihoods_of
from nexa.eval.safety import RULES_VERSION, marks, safety_of
from nexa.eval.sandbox import tell_isolation
from nexa.eval.suite import Question, read_suite
from nexa.eval.tasks.table import frozen_task
from nexa.eval.tasks.task import Grade, Task


@dataclass(frozen=True)
class ScoreSpec:
    """The suite says how answers are scored; there is nothing else to choose."""

    name: str = where()
    run_code: bool = where(default=False)  # whether code that a model wrote may be run


def score(
    spec: ScoreSpec, *, suite: Artifact[SuiteBody], answers: Artifact[AnswersBody], store: Store
) -> Draft[ScoresBody]:
    """Mark every answer.

    The draft's file is `scores.jsonl`: id, group, domain, stopped, a number from 0 to 1 for each
    metric, the marks of its hazards, and `detail`, the counts behind the numbers.

    Raises:
        EvalError: the answers are another suite's, or not one for each of its rows.
    """
    questions = read_suite(suite, store)
    task = frozen_task(suite.body)
    if task.runs_code:
        _require_leave(spec, suite.body)
    given = read_answers(suite, questions, answers, store)
    rows = grade_rows(suite, questions, given, task)
    derived = derive_scores(rows, suite.body.metrics)
    body = ScoresBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        seal=seal_of(suite.body, answers.body),
        ruler=ruler_of(suite.body, answers.body),
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        general_cross_entropy=answers.body.general_cross_entropy,
        counts=derived.counts,
        missing=derived.missing,
        bounds=derived.bounds,
        corpus=derive_corpus(rows, task.corpus) if task.corpus else None,
        safety=None if task.by_likelihood else safety_of(rows),
        spent=answers.body.spent,
    )
    return Draft("scores", spec.name, body, {"scores.jsonl": write_rows(rows)})


def grade_rows(
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    answers: Mapping[str, Any],
    task: Task | None = None,
) -> list[dict[str, Any]]:
    """The rows of `scores.jsonl`; `answers` are rows of `answers.jsonl` by id."""
    task = task or frozen_task(suite.body)
    grade = task.grader([question.target for question in questions])
    rows = []
    for question in questions:
        answer = answers[question.id]
        if task.by_likelihood:
            made: Grade | None = grade(likelihoods_of(answer), question.target)
        else:
            made = None if answer["text"] is None else grade(answer["text"], question.target)
        marked = {} if task.by_likelihood else marks(answer["text"])
        rows.append(_row(question, answer, made, suite.body.metrics, marked))
    return rows


def seal_of(suite: SuiteBody, answers: AnswersBody) -> str:
    """What made the numbers, beside model and rows: scores under different seals never meet.

    Task, metrics with their versions, parser, decoding, chat template, general text, and the rules
    that hazards are looked for by.
    """
    sealed = {
        **_ruler(suite),
        "decoding": answers.decoding,
        "template_sha256": answers.template_sha256,
        "general_text_sha256": answers.general_text_sha256,
    }
    return sha256_bytes(canonical_json(sealed))


def ruler_of(suite: SuiteBody, answers: AnswersBody) -> str:
    """The part of the seal that a model of an API has, too: see `nexa.core.seals`."""
    ruler = {
        **_ruler(suite),
        "method": answers.decoding["method"],
        "max_new_tokens": suite.max_new_tokens,
    }
    return sha256_bytes(canonical_json(ruler))


def _ruler(suite: SuiteBody) -> dict[str, Any]:
    task = frozen_task(suite)
    signed = {name: told for name, told in task.signatures.items() if name in suite.metrics}
    return {
        "task": task.name,
        "metrics": {name: task.versions[name] for name in suite.metrics},
        "parser": task.parser,
        # Left out where there are none: older seals had no place for them.
        **({"task_sha256": suite.task_sha256} if suite.task_sha256 else {}),
        **({"signatures": signed} if signed else {}),
        "safety_rules": RULES_VERSION,
    }


def read_answers(
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    answers: Artifact[AnswersBody],
    store: Store,
) -> dict[str, dict[str, Any]]:
    """The rows of `answers.jsonl` by id, one for each question.

    Raises:
        EvalError: the answers are another suite's, or not one for each of its rows.
    """
    if answers.body.suite_digest != suite.digest:
        raise EvalError(
            f"{answers.label} does not answer {suite.label}",
            found=f"it answers the suite {answers.body.suite_digest[:16]}",
        )
    rows = read_rows(store.path(answers, "answers.jsonl").read_bytes())
    wanted, given = Counter(q.id for q in questions), Counter(row["id"] for row in rows)
    if wanted != given:
        odd = sorted((wanted - given) + (given - wanted))
        raise EvalError(
            f"{answers.label} is not one answer for each row of {suite.label}",
            found=f"{len(rows)} answers to {len(questions)} questions; missing or twice: {odd[:3]}",
        )
    return {row["id"]: row for row in rows}


def _require_leave(spec: ScoreSpec, suite: SuiteBody) -> None:
    """Refuse to run what a model wrote, unless someone said that it may be.

    Raises:
        EvalError: nobody did.
    """
    if not spec.run_code:
        raise EvalError(
            f"task {suite.task} runs code that a model wrote, and nobody allowed that",
            fix="eval.run_code: true in config.yaml, or --run-code; nexa.eval.sandbox tells what "
            "such code can do",
        )
    tell_isolation()


def _row(
    question: Question,
    answer: Mapping[str, Any],
    grade: Grade | None,
    metrics: Sequence[str],
    marked: Mapping[str, Any],
) -> dict[str, Any]:
    """An answer that never came (no grade) has no score, which is not a score of 0."""
    scores = dict.fromkeys(metrics) if grade is None else {m: grade.scores[m] for m in metrics}
    detail = {"unanswered": 1} if grade is None else dict(grade.detail)
    statistics = {} if grade is None else dict(grade.statistics)
    return {
        "id": question.id,
        "group": question.group,
        "domain": question.domain,
        "stopped": int(answer["stopped"]),
        **scores,
        **marked,
        "detail": detail,
        **({STATISTICS: statistics} if statistics else {}),
    }
