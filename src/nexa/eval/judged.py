"""Judgements as scores: levels from 1 to 5 become 0 to 1, their mean over repeats is a row's score.

A verdict that could not be had is missing, never zero: a row without any has the score null, and
what is said over all rows says how many those are and within which bounds the mean lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import (
    AnswersBody,
    Artifact,
    Draft,
    JudgementsBody,
    JudgeSeal,
    ScoresBody,
    SuiteBody,
)
from nexa.core.scoring import derive_scores, read_rows, write_rows
from nexa.core.statistics import kept
from nexa.core.store import Store
from nexa.eval.agreement import Judged, judged_levels
from nexa.eval.metrics import read_answers
from nexa.eval.rubrics.rubric import Rubric, score_of
from nexa.eval.safety import RULES_VERSION, marks, safety_of
from nexa.eval.suite import Question, read_suite
from nexa.eval.verdicts import rubric_of

VERSION = 1  # raised with any change of how levels become scores


@dataclass(frozen=True)
class ScoreJudgedSpec:
    """The judgements say how they were made; there is nothing else to choose."""

    name: str = where()


def score_judged(
    spec: ScoreJudgedSpec,
    *,
    suite: Artifact[SuiteBody],
    answers: Artifact[AnswersBody],
    judgements: Artifact[JudgementsBody],
    store: Store,
) -> Draft[ScoresBody]:
    """Scores of the criteria and `overall`, under a seal that names the judge.

    The draft's file is `scores.jsonl`: id, group, domain, stopped, a number from 0 to 1 or null for
    each criterion and `overall`, the marks of its hazards, and `detail`: verdicts that are missing.

    Raises:
        EvalError: judgements of other answers, or of pairs.
    """
    _check(answers, judgements)
    rubric = rubric_of(judgements, store)
    questions = read_suite(suite, store)
    given = read_answers(suite, questions, answers, store)
    said = read_rows(store.path(judgements, "judgements.jsonl").read_bytes())
    rows = judged_rows(questions, given, said, rubric)
    derived = derive_scores(rows, rubric.metrics)
    body = ScoresBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        seal=_digest(judgements.body.seal, suite.body, _answered(answers.body)),
        ruler=_digest(judgements.body.seal, suite.body, _asked(answers.body)),
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        general_cross_entropy=answers.body.general_cross_entropy,
        counts=derived.counts,
        missing=derived.missing,
        bounds=derived.bounds,
        primary=rubric.primary,
        judge=judgements.body.seal,
        safety=safety_of(rows),
        spent=answers.body.spent,
        judging=judgements.body.spent,
    )
    return Draft("scores", spec.name, body, {"scores.jsonl": write_rows(rows)})


def judged_rows(
    questions: Sequence[Question],
    answers: Mapping[str, Mapping[str, Any]],
    judgements: Sequence[Mapping[str, Any]],
    rubric: Rubric,
) -> list[dict[str, Any]]:
    """The rows of `scores.jsonl`, from those of `judgements.jsonl` and the answers by their ids.

    Raises:
        EvalError: not one judgement for each question.
    """
    if sorted(row["id"] for row in judgements) != sorted(q.id for q in questions):
        raise EvalError(
            "there is not one judgement for each row of the suite",
            found=f"{len(judgements)} judgements, {len(questions)} rows",
        )
    levels = {name: judged_levels(judgements, name, rubric) for name in rubric.metrics}
    details = {row["id"]: _detail(row, rubric) for row in judgements}
    return [
        {
            "id": q.id,
            "group": q.group,
            "domain": q.domain,
            "stopped": int(answers[q.id]["stopped"]),
            **{name: _score(levels[name], q.id) for name in rubric.metrics},
            **marks(answers[q.id]["text"]),
            "detail": details[q.id],
        }
        for q in questions
    ]


def _check(answers: Artifact[AnswersBody], judgements: Artifact[JudgementsBody]) -> None:
    body = judgements.body
    if body.answers_digest != answers.digest:
        raise EvalError(f"{judgements.label} are not judgements of {answers.label}")
    if body.mode != "absolute":
        raise EvalError(f"{judgements.label} compares pairs: they win, tie or lose, without levels")


def _score(levels: Judged, row_id: str) -> float | None:
    level = levels[row_id]
    return None if level is None else kept(score_of(level))


def _detail(row: Mapping[str, Any], rubric: Rubric) -> dict[str, int]:
    """What is counted: verdicts that are missing, answers that address the judge or were cut."""
    verdicts = row[rubric.names[0]]
    return {
        "verdicts": len(verdicts),
        "verdicts missing": sum(level is None for level in verdicts),
        "addresses the judge": int(bool(row["flags"])),
        "cut for the judge": int(row["left_out"] > 0),
    }


def _digest(judge: JudgeSeal, suite: SuiteBody, answered: Mapping[str, Any]) -> str:
    """What made the numbers, beside model and rows."""
    ruler = {
        "judge": judge.model_dump(mode="json"),
        "levels": VERSION,
        "safety_rules": RULES_VERSION,
        "max_new_tokens": suite.max_new_tokens,
        **answered,
    }
    return sha256_bytes(canonical_json(ruler))


def _answered(answers: AnswersBody) -> dict[str, Any]:
    """How the answers were made, as `nexa.eval.metrics.seal_of` has it."""
    return {
        "decoding": answers.decoding,
        "template_sha256": answers.template_sha256,
        "general_text_sha256": answers.general_text_sha256,
    }


def _asked(answers: AnswersBody) -> dict[str, Any]:
    """The part of it that a model of an API has, too: see `nexa.core.seals`."""
    return {"method": answers.decoding["method"]}
