"""Scoring answers by rule: one line a row, means with intervals, and the seal of the ruler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import AnswersBody, Artifact, Draft, ScoresBody, SuiteBody
from nexa.core.scoring import derive_scores, read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.suite import Question, read_suite
from nexa.eval.tasks.table import TASKS
from nexa.eval.tasks.task import Grade


@dataclass(frozen=True)
class ScoreSpec:
    """The suite says how answers are scored; there is nothing else to choose."""

    name: str = where()


def score(
    spec: ScoreSpec, *, suite: Artifact[SuiteBody], answers: Artifact[AnswersBody], store: Store
) -> Draft[ScoresBody]:
    """Mark every answer.

    The draft's file is `scores.jsonl`: id, group, domain, stopped, a number from 0 to 1 for each
    metric, and `detail`, the counts behind them.

    Raises:
        EvalError: the answers are another suite's, or not one for each of its rows.
    """
    questions = read_suite(suite, store)
    rows = grade_rows(suite, questions, _answers(suite, questions, answers, store))
    derived = derive_scores(rows, suite.body.metrics)
    body = ScoresBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        seal=seal_of(suite.body, answers.body),
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        general_cross_entropy=answers.body.general_cross_entropy,
        counts=derived.counts,
    )
    return Draft("scores", spec.name, body, {"scores.jsonl": write_rows(rows)})


def grade_rows(
    suite: Artifact[SuiteBody], questions: Sequence[Question], answers: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The rows of `scores.jsonl`; `answers` are rows of `answers.jsonl` by id."""
    grade = TASKS[suite.body.task].grader([question.target for question in questions])
    return [
        _row(q, answers[q.id], grade(answers[q.id]["text"], q.target), suite.body.metrics)
        for q in questions
    ]


def seal_of(suite: SuiteBody, answers: AnswersBody) -> str:
    """What made the numbers, beside model and rows: scores under different seals never meet.

    Task, metrics with their versions, parser, decoding, chat template, general text.
    """
    task = TASKS[suite.task]
    ruler = {
        "task": task.name,
        "metrics": {name: task.versions[name] for name in suite.metrics},
        "parser": task.parser,
        "decoding": answers.decoding,
        "template_sha256": answers.template_sha256,
        "general_text_sha256": answers.general_text_sha256,
    }
    return sha256_bytes(canonical_json(ruler))


def _answers(
    suite: Artifact[SuiteBody],
    questions: Sequence[Question],
    answers: Artifact[AnswersBody],
    store: Store,
) -> dict[str, dict[str, Any]]:
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


def _row(
    question: Question, answer: Mapping[str, Any], grade: Grade, metrics: Sequence[str]
) -> dict[str, Any]:
    return {
        "id": question.id,
        "group": question.group,
        "domain": question.domain,
        "stopped": int(answer["stopped"]),
        **{metric: grade.scores[metric] for metric in metrics},
        "detail": dict(grade.detail),
    }
