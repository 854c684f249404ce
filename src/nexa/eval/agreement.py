"""A judge beside people who graded some of the same answers, and its mean corrected by theirs.

A file of labels is JSON lines: `{"id": ROW, "rater": NAME, CRITERION: level, ...}`. Several raters
are several lines of a row; a criterion that a line leaves out was not graded. Levels run from 1 to
5 and may lie between two. `answer_sha256`, the digest of the text that was graded, keeps a label
from being set beside another model's answer. `origin` and `note` are for people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core import values
from nexa.core.errors import DataError, EvalError, nearest
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.prediction_powered import corrected_mean, uses_judge
from nexa.core.records import (
    AgreementBody,
    Artifact,
    CriterionAgreement,
    Draft,
    Interval,
    JudgementsBody,
    SuiteBody,
)
from nexa.core.scoring import read_rows
from nexa.core.statistics import interval
from nexa.core.store import Store
from nexa.eval.agreement_figures import alpha, kappa, spearman
from nexa.eval.rubrics.rubric import LEVELS, OVERALL, Rubric, score_of
from nexa.eval.suite import Question, read_suite
from nexa.eval.verdicts import rubric_of

RATER = "1"  # of a file that names none
OTHER_KEYS = ("id", "rater", "answer_sha256", "origin", "note")
MOST_MISTAKES = 5
NOT_LABELLED = "people graded no row of it"
PEOPLE_ALONE = (
    "too few labelled groups, no other rows, or a judge that always says the same: what people "
    "graded stands alone"
)

Judged = Mapping[str, float | None]
"""Of each row the mean level over its repeats, None where there is none."""


@dataclass(frozen=True)
class Label:
    """What one person said of one answer."""

    id: str
    rater: str
    levels: Mapping[str, float]
    answer_sha256: str | None = None


@dataclass(frozen=True)
class LabelFile:
    """A file of labels, by its contents."""

    name: str
    sha256: str
    path: Path = where()

    @classmethod
    def of(cls, path: Path) -> LabelFile:
        """A file by its path.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return cls(path.name, sha256_bytes(path.read_bytes()), path)
        except OSError as error:
            raise DataError(f"cannot read the labels {path}", found=str(error)) from error


@dataclass(frozen=True)
class AgreeSpec:
    """Whose labels."""

    labels: LabelFile
    name: str = where()


def agree(
    spec: AgreeSpec,
    *,
    suite: Artifact[SuiteBody],
    judgements: Artifact[JudgementsBody],
    store: Store,
) -> Draft[AgreementBody]:
    """How far judge and people agree on each criterion and overall.

    The draft's files are `agreement.json`, the body, and `labels.jsonl`, the labels as given.

    Raises:
        DataError: a file with mistakes, named by their lines; no label of a row of the suite.
        EvalError: judgements of pairs, or of another suite.
    """
    _check(suite, judgements)
    rubric = rubric_of(judgements, store)
    raw = spec.labels.path.read_bytes()
    labels = read_labels(raw, rubric, name=spec.labels.name)
    questions = read_suite(suite, store)
    given = _digests(judgements, store)
    ours = [label for label in labels if label.answer_sha256 in (None, given.get(label.id))]
    ours = [label for label in ours if label.id in given]
    if not ours:
        raise DataError(
            f"{spec.labels.name} grades no answer of {judgements.body.model.name} to {suite.label}",
            found=f"{labels[0].id!r} and others" if labels else "an empty file",
            fix="the ids are those of prompts.jsonl and judgements.jsonl",
        )
    if unknown := len(labels) - len(ours):
        emit("note", text=f"{unknown} labels of {spec.labels.name} grade other answers")
    rows = read_rows(store.path(judgements, "judgements.jsonl").read_bytes())
    body = AgreementBody(
        model=judgements.body.model,
        suite_digest=suite.digest,
        judgements_digest=judgements.digest,
        seal=judgements.body.seal,
        labels_sha256=spec.labels.sha256,
        raters=sorted({label.rater for label in ours}),
        labelled=len({label.id for label in ours}),
        unknown=unknown,
        criteria={
            name: _criterion(questions, judged_levels(rows, name, rubric), by_rater)
            for name, by_rater in _by_rater(ours, rubric).items()
        },
    )
    files: dict[str, bytes | Path] = {
        "agreement.json": canonical_json(body.model_dump(mode="json")),
        "labels.jsonl": raw,
    }
    return Draft("agreement", spec.name, body, files)


def read_labels(raw: bytes, rubric: Rubric, *, name: str) -> list[Label]:
    """The labels of a file.

    Raises:
        DataError: lines that are none; the first few are named.
    """
    labels: list[Label] = []
    wrong: list[str] = []
    seen: set[tuple[str, str, str | None]] = set()
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        data, problem = values.parse(line)
        if data is not None:
            problem = _mistake(data, rubric)
        if data is None or problem:
            wrong.append(f"line {number}: {problem}")
            continue
        label = _label(data)
        graded = (label.id, label.rater, label.answer_sha256)
        if graded in seen:
            wrong.append(f"line {number}: rater {label.rater} graded {label.id!r} before")
        seen.add(graded)
        labels.append(label)
    if wrong:
        more = [f"... and {len(wrong) - MOST_MISTAKES} more"] * (len(wrong) > MOST_MISTAKES)
        found = "\n".join([*wrong[:MOST_MISTAKES], *more])
        raise DataError(f"{name} has lines that are no labels", found=found)
    return labels


def between_repeats(
    rows: Sequence[Mapping[str, Any]], names: Iterable[str]
) -> dict[str, float] | None:
    """Krippendorff's alpha over a judge's repeats; None for one repeat.

    A criterion that it is not defined for (all levels alike) is left out.
    """
    found: dict[str, float] = {}
    for name in names:
        ratings = list(zip(*(row[name] for row in rows), strict=True))
        if len(ratings) < 2:
            return None
        figure = alpha(ratings, [str(row["id"]) for row in rows])
        if figure.value is not None:
            found[name] = figure.value
    return found


def judged_levels(rows: Sequence[Mapping[str, Any]], name: str, rubric: Rubric) -> Judged:
    """The mean level of each row over its repeats: of a criterion, or overall."""
    if name == OVERALL:
        parts = {one: judged_levels(rows, one, rubric) for one in rubric.names}
        ids = [str(row["id"]) for row in rows]
        return {i: rubric.overall({one: parts[one][i] for one in parts}) for i in ids}
    return {str(row["id"]): _mean([v for v in row[name] if v is not None]) for row in rows}


def _check(suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]) -> None:
    body = judgements.body
    if body.suite_digest != suite.digest:
        raise EvalError(f"{judgements.label} is not of {suite.label}")
    if body.mode != "absolute":
        raise EvalError(f"{judgements.label} compares pairs: there are no levels to agree on")


def _digests(judgements: Artifact[JudgementsBody], store: Store) -> dict[str, str]:
    """The digest of each answer's text that was judged, by its row."""
    answers = store.by_digest(judgements.body.answers_digest)
    rows = read_rows(store.path(answers, "answers.jsonl").read_bytes())
    return {row["id"]: sha256_bytes((row["text"] or "").encode()) for row in rows}


def _mistake(data: Mapping[str, Any], rubric: Rubric) -> str:
    """Why an object is no label; nothing where it is one."""
    if not isinstance(data.get("id"), str):
        return "there is no id, or it is no text"
    for key in ("rater", "answer_sha256"):
        if not isinstance(data.get(key, RATER), str):
            return f"{key} {data[key]!r} is no text"
    for key, value in data.items():
        if key in OTHER_KEYS:
            continue
        if key not in rubric.names:
            near = nearest(key, [*rubric.names, *OTHER_KEYS])
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(rubric.names)}"
            return f"{key!r} is no criterion of {rubric.name}: {hint}"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and LEVELS[0] <= value <= LEVELS[-1]):
            return f"{key} is {value!r}, not a level from {LEVELS[0]} to {LEVELS[-1]}"
    return ""


def _label(data: Mapping[str, Any]) -> Label:
    levels = {
        key: float(value)
        for key, value in data.items()
        if key not in OTHER_KEYS and value is not None
    }
    return Label(data["id"], data.get("rater", RATER), levels, data.get("answer_sha256"))


def _by_rater(labels: Sequence[Label], rubric: Rubric) -> dict[str, dict[str, dict[str, float]]]:
    """Of each criterion, and overall: rater -> row -> level."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in rubric.metrics}
    for label in labels:
        overall = rubric.overall({name: label.levels.get(name) for name in rubric.names})
        graded = dict(label.levels) if overall is None else {**label.levels, OVERALL: overall}
        for name, level in graded.items():
            found[name].setdefault(label.rater, {})[label.id] = level
    return found


def _criterion(
    questions: Sequence[Question], judged: Judged, by_rater: Mapping[str, Mapping[str, float]]
) -> CriterionAgreement:
    groups = {question.id: question.group for question in questions}
    people = {
        row: mean
        for row in groups
        if (mean := _mean([one[row] for one in by_rater.values() if row in one])) is not None
    }
    both = {row: (level, people[row]) for row in people if (level := judged[row]) is not None}
    machine, human = ([pair[i] for pair in both.values()] for i in (0, 1))
    of_both = [groups[row] for row in both]
    whole = [[_whole(level) for level in levels] for levels in (machine, human)]
    raters = [[one.get(row) for row in groups] for one in by_rater.values()]
    clusters = list(groups.values())
    everyone = [*raters, [judged[row] if row in people else None for row in groups]]
    corrected, why = _corrected(judged, people, groups)
    given = {row: level for row, level in judged.items() if level is not None}
    return CriterionAgreement(
        kappa=kappa(whole[0], whole[1], of_both, quadratic=False),
        kappa_quadratic=kappa(whole[0], whole[1], of_both, quadratic=True),
        spearman=spearman(machine, human, of_both),
        alpha=alpha(everyone, clusters),
        between_people=alpha(raters, clusters) if len(raters) > 1 else None,
        judged=_interval(given, groups),
        people=_interval(people, groups),
        corrected=corrected,
        why=why,
    )


def _corrected(
    judged: Judged, people: Mapping[str, float], groups: Mapping[str, str]
) -> tuple[Interval | None, str]:
    """The mean that people would give all rows, and what it rests on if not on both."""
    if not people:
        return None, NOT_LABELLED
    others = [row for row in groups if row not in people]
    far, near = (
        [None if (v := judged[row]) is None else score_of(v) for row in rows]
        for rows in (others, people)
    )
    far_groups, near_groups = ([groups[row] for row in rows] for rows in (others, people))
    human = [score_of(level) for level in people.values()]
    found = corrected_mean(far, far_groups, near, human, near_groups)
    return found, "" if uses_judge(far, near, near_groups) else PEOPLE_ALONE


def _interval(levels: Mapping[str, float], groups: Mapping[str, str]) -> Interval | None:
    if not levels:
        return None
    return interval([score_of(v) for v in levels.values()], [groups[row] for row in levels])


def _mean(found: Sequence[float]) -> float | None:
    return math.fsum(found) / len(found) if found else None


def _whole(level: float) -> int:
    """The nearest whole level; what lies between two goes up."""
    return math.floor(level + 0.5)
