from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import krippendorff
import pytest

from nexa.core.errors import DataError, EvalError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_bytes
from nexa.core.records import AgreementBody, Artifact, JudgementsBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.agreement import (
    NOT_LABELLED,
    PEOPLE_ALONE,
    AgreeSpec,
    LabelFile,
    agree,
    between_repeats,
    judged_levels,
    read_labels,
)
from nexa.eval.suite import FreezeSpec, freeze, read_suite
from nexa.lm.client import Request
from tests.eval import made
from tests.eval.judging import RUBRIC, answers, rows_of, verdict
from tests.eval.test_judged import judged


@pytest.fixture
def suite(store: Store) -> Artifact[SuiteBody]:
    """Thirty rows, each of a group of its own."""
    rows = made.record_rows([f"metal{i}" for i in range(30)], notes=1)
    dataset = made.dataset(store, {"eval": rows})
    draft = freeze(FreezeSpec(name="metals", rows=30), dataset=dataset, store=store)
    return made.seal(draft, store)


def two_levels(data: Mapping[str, Any], nonce: str, request: Request) -> str:
    """The two digits of an answer: clarity, depth."""
    digits = [int(digit) for digit in str(data["answer"])[-2:]]
    return verdict(nonce, dict(zip(("clarity", "depth"), digits, strict=True)))


def texts(count: int = 30) -> list[str]:
    return [f"answer {1 + i % 5}{1 + i % 3}" for i in range(count)]


def labels(tmp_path: Path, lines: list[dict[str, Any]]) -> AgreeSpec:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return AgreeSpec(LabelFile.of(path), name="m")


@pytest.fixture
def judgements(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> Artifact[JudgementsBody]:
    return judged(store, suite, answers(store, suite, texts()), tmp_path, two_levels)


def found(
    spec: AgreeSpec, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody], store: Store
) -> AgreementBody:
    body: AgreementBody = agree(spec, suite=suite, judgements=judgements, store=store).body
    return body


def test_a_judge_that_is_one_level_too_kind_is_corrected(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    ids = [question.id for question in read_suite(suite, store)]
    lines = [
        {"id": row, "rater": "ann", "clarity": max(1, i % 5), "depth": 1 + i % 3, "note": "mine"}
        for i, row in enumerate(ids[:20])
    ]
    spec = labels(tmp_path, lines)
    body = found(spec, suite, judgements, store)
    assert (body.raters, body.labelled, body.unknown) == (["ann"], 20, 0)
    assert body.labels_sha256 == spec.labels.sha256
    assert list(body.criteria) == ["clarity", "depth", "overall"]
    clarity, depth = body.criteria["clarity"], body.criteria["depth"]
    assert depth.kappa.value == depth.alpha.value == depth.spearman.value == 1
    assert clarity.kappa.value is not None
    assert clarity.kappa.value < 0.2
    assert clarity.kappa_quadratic.value is not None
    assert clarity.kappa_quadratic.value > 0.6
    assert clarity.spearman.value == pytest.approx(0.97, abs=0.03)
    assert clarity.judged is not None
    assert clarity.people is not None
    assert clarity.corrected is not None
    assert clarity.judged.n == 30
    assert clarity.judged.mean == 0.5
    assert clarity.people.n == 20
    assert clarity.corrected.mean == pytest.approx(0.5 - 0.8 / 4, abs=0.02)
    assert clarity.corrected.low < 0.3 < clarity.corrected.high
    assert clarity.why == ""
    assert clarity.between_people is None
    assert body.criteria["overall"].kappa.n == 20


def test_several_raters_are_averaged_and_their_own_agreement_told(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    ids = [question.id for question in read_suite(suite, store)]
    ann = [{"id": row, "rater": "ann", "clarity": 1 + i % 5} for i, row in enumerate(ids[:8])]
    bob = [{"id": row, "rater": "bob", "clarity": 1 + (i + 1) % 5} for i, row in enumerate(ids[:8])]
    body = found(labels(tmp_path, [*ann, *bob]), suite, judgements, store)
    clarity = body.criteria["clarity"]
    assert body.raters == ["ann", "bob"]
    assert clarity.between_people is not None
    ratings = [[line["clarity"] for line in lines] for lines in (ann, bob)]
    people = krippendorff.alpha(ratings, level_of_measurement="ordinal")
    assert clarity.between_people.value == pytest.approx(people)
    everyone = krippendorff.alpha([*ratings, ratings[0]], level_of_measurement="ordinal")
    assert clarity.alpha.value == pytest.approx(everyone)
    assert clarity.people is not None
    assert clarity.people.n == 8
    assert clarity.why == PEOPLE_ALONE
    assert clarity.corrected == clarity.people


def test_a_criterion_that_nobody_graded_says_so(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    row = read_suite(suite, store)[0].id
    body = found(
        labels(tmp_path, [{"id": row, "clarity": None, "depth": 4.5}]), suite, judgements, store
    )
    clarity, depth = body.criteria["clarity"], body.criteria["depth"]
    assert (clarity.corrected, clarity.people, clarity.why) == (None, None, NOT_LABELLED)
    assert clarity.kappa.why == "no row has levels of both"
    assert depth.kappa.why == "one row says nothing of agreement"
    assert depth.people is not None
    assert depth.people.mean == pytest.approx(3.5 / 4)


def test_missing_verdicts_leave_agreement_and_stay_in_the_correction(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    given = answers(store, suite, [None, *texts(29)])
    judgements = judged(store, suite, given, tmp_path, two_levels)
    ids = [question.id for question in read_suite(suite, store)]
    lines = [{"id": row, "clarity": 1 + i % 5} for i, row in enumerate(ids[:15])]
    clarity = found(labels(tmp_path, lines), suite, judgements, store).criteria["clarity"]
    assert clarity.kappa.n == 14
    assert clarity.judged is not None
    assert clarity.judged.n == 29
    assert clarity.people is not None
    assert clarity.people.n == 15


def test_rows_that_the_judge_never_graded_have_no_mean(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    given = answers(store, suite, [texts(1)[0], *[None] * 29])
    judgements = judged(store, suite, given, tmp_path, two_levels)
    row = read_suite(suite, store)[0].id
    rows = [{"id": "x", "clarity": [None], "depth": [None]}]
    assert judged_levels(rows, "overall", RUBRIC) == {"x": None}
    clarity = found(labels(tmp_path, [{"id": row, "clarity": 2}]), suite, judgements, store)
    assert clarity.criteria["clarity"].judged is not None
    assert clarity.criteria["clarity"].judged.n == 1


def test_labels_of_other_rows_are_counted_and_told(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    row = read_suite(suite, store)[0].id
    spec = labels(tmp_path, [{"id": row, "clarity": 2}, {"id": "elsewhere", "clarity": 2}])
    heard: list[Event] = []
    with listening(heard.append):
        assert found(spec, suite, judgements, store).unknown == 1
    assert any("1 labels of labels.jsonl" in str(event.get("text")) for event in heard)
    with pytest.raises(DataError, match="grades no answer of model to suite/metals"):
        found(labels(tmp_path, [{"id": "elsewhere", "clarity": 2}]), suite, judgements, store)
    with pytest.raises(DataError, match="an empty file"):
        found(labels(tmp_path, []), suite, judgements, store)


def test_a_label_of_another_answer_to_the_row_does_not_count(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    ids = [question.id for question in read_suite(suite, store)]
    right, wrong = (sha256_bytes(text.encode()) for text in (texts()[0], "another answer"))
    lines = [
        {"id": ids[0], "clarity": 2, "answer_sha256": right},
        {"id": ids[0], "clarity": 5, "answer_sha256": wrong},
        {"id": ids[1], "clarity": 2, "answer_sha256": wrong},
    ]
    body = found(labels(tmp_path, lines), suite, judgements, store)
    assert (body.labelled, body.unknown) == (1, 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "not an object"),
        ("{", "broken JSON"),
        ('{"clarity": 3}', "there is no id"),
        ('{"id": 7}', "there is no id"),
        ('{"id": "a", "rater": 7}', "rater 7 is no text"),
        ('{"id": "a", "answer_sha256": 7}', "answer_sha256 7 is no text"),
        ('{"id": "a", "claritty": 3}', "did you mean 'clarity'"),
        ('{"id": "a", "zzzzz": 3}', "known: clarity, depth"),
        ('{"id": "a", "clarity": 6}', "clarity is 6, not a level from 1 to 5"),
        ('{"id": "a", "clarity": true}', "clarity is True"),
        ('{"id": "a", "clarity": "4"}', "clarity is '4'"),
        ('{"id": "first", "clarity": 4}', "rater 1 graded 'first' before"),
    ],
)
def test_a_line_that_is_no_label_is_named(line: str, told: str) -> None:
    raw = b'{"id": "first", "clarity": 3}\n\n' + line.encode() + b"\n"
    with pytest.raises(DataError, match="line 3: ") as error:
        read_labels(raw, RUBRIC, name="labels.jsonl")
    assert told in str(error.value)


def test_many_wrong_lines_are_told_in_part() -> None:
    with pytest.raises(DataError, match="and 3 more"):
        read_labels(b"[]\n" * 8, RUBRIC, name="labels.jsonl")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the labels"):
        LabelFile.of(tmp_path / "none.jsonl")


def test_judgements_of_another_suite_or_of_pairs_are_refused(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    spec = labels(tmp_path, [])
    for change, told in (
        ({"suite_digest": "0"}, "is not of"),
        ({"mode": "pairwise"}, "compares pairs"),
    ):
        other = replace(judgements, body=judgements.body.model_copy(update=change))
        with pytest.raises(EvalError, match=told):
            agree(spec, suite=suite, judgements=other, store=store)


def test_the_record_has_the_labels_and_itself_as_files(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody], judgements: Artifact[JudgementsBody]
) -> None:
    row = read_suite(suite, store)[0].id
    spec = labels(tmp_path, [{"id": row, "clarity": 2}])
    draft = agree(spec, suite=suite, judgements=judgements, store=store)
    assert draft.files["labels.jsonl"] == spec.labels.path.read_bytes()
    assert rows_of(draft, "agreement.json") == [draft.body.model_dump(mode="json")]


def test_repeats_agree_with_each_other_or_there_is_one() -> None:
    rows = [{"id": str(i), "clarity": [1 + i % 5, 1 + i % 5], "depth": [3, 3]} for i in range(6)]
    assert between_repeats(rows, ["clarity", "depth"]) == {"clarity": 1.0}
    once = [{"id": "a", "clarity": [3]}]
    assert between_repeats(once, ["clarity"]) is None
