"""What a model got wrong on the suite for analysis: which rows, and which fields of records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nexa.core.errors import EvalError
from nexa.core.records import AnswersBody, Artifact, ScoresBody, WeaknessBody
from nexa.core.scoring import read_rows
from nexa.core.store import Store
from nexa.feedback.feedback_generators.agreement import record_of
from nexa.feedback.items import Item

RIGHT = 1.0  # a score that leaves nothing to learn
MOST_FIELDS = 5


def wrong_rows(
    weakness: Artifact[WeaknessBody], suite: Sequence[Item], store: Store
) -> dict[str, list[Item]]:
    """For each weak slice the suite's rows that were not answered right, the worst first."""
    scores: Artifact[ScoresBody] = store.by_digest(weakness.body.scores_digest)
    rows = read_rows(store.path(scores, "scores.jsonl").read_bytes())
    marks = {str(row["id"]): row for row in rows}
    items = {item.id: item for item in suite}
    found: dict[str, list[Item]] = {}
    for one in weakness.body.slices:
        if one.weak:
            told = {name: marks[name].get(one.metric) for name in one.rows}
            wrong = {name: mark for name, mark in told.items() if mark is not None and mark < RIGHT}
            worst = sorted(wrong, key=lambda name: (wrong[name], name))
            found.setdefault(f"{one.by}={one.value}", [items[name] for name in worst])
    return found


def missed_fields(
    weakness: Artifact[WeaknessBody],
    suite: Sequence[Item],
    answers: Artifact[AnswersBody] | None,
    store: Store,
) -> list[str]:
    """Names of the fields that answers of weak slices had wrong, the most frequent first.

    Raises:
        EvalError: the answers are not those that the weaknesses were found in.
    """
    if answers is None:
        return []
    scores: Artifact[ScoresBody] = store.by_digest(weakness.body.scores_digest)
    if scores.body.answers_digest != answers.digest:
        raise EvalError(f"{weakness.label} was not found in {answers.label}")
    rows = read_rows(store.path(answers, "answers.jsonl").read_bytes())
    said = {str(row["id"]): row.get("text") or "" for row in rows}
    weak = {name for one in weakness.body.slices if one.weak for name in one.rows}
    missed: Counter[str] = Counter()
    for item in suite:
        target, answer = record_of(item.answer), record_of(said.get(item.id, ""))
        if item.id in weak and target is not None:
            given = answer or {}
            missed.update(name for name in target if given.get(name) != target[name])
    return [name for name, _ in sorted(missed.items(), key=lambda m: (-m[1], m[0]))][:MOST_FIELDS]
