"""Whether a teacher is believed: answers that agree, and stand in what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.feedback_generators.asking import (
    NothingProposed,
    ProposeSpec,
    propose,
)
from nexa.lm.client import Request
from nexa.lm.requests import Pace
from nexa.lm.teachers import open_model
from nexa.lm.teaching import Teacher
from tests.feedback import made
from tests.feedback.teaching import (
    PRICE,
    Messages,
    inside,
    lines,
    proposed,
    solved,
    teach,
    wrong_in,
)
from tests.support.scripted_endpoint import Script, ScriptedEndpoint


def wrong(rows: list[dict[str, Any]]) -> int:
    return sum(json.loads(row["completion"]) != solved(row["prompt"]) for row in rows)


@pytest.mark.parametrize(
    ("votes", "grounding", "most_wrong", "least_rows"),
    [(1, "never", 30, 120), (1, "auto", 17, 100), (2, "auto", 2, 60), (3, "auto", 0, 40)],
)
def test_a_teacher_that_is_wrong_in_a_fifth_of_its_answers_gives_clean_rows(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    votes: int,
    grounding: str,
    most_wrong: int,
    least_rows: int,
) -> None:
    """Of 120 questions, over HTTP. One vote believes it; two leave hardly a wrong row."""
    with ScriptedEndpoint(Script(function=wrong_in(0.2))) as endpoint:
        model = open_model("wise", project=tmp_path, base_url=endpoint.url, price=PRICE)
        teacher = Teacher("wise", dict(model.identity), model, tmp_path / "journal", Pace())
        spec = ProposeSpec(
            name="new",
            teacher=teacher,
            rows=120,
            votes=votes,
            grounding=grounding,  # type: ignore[arg-type]
        )
        draft = propose(spec, weakness=weak, dataset=dataset, store=store)
        assert len(endpoint.billed) == 120 * (1 + votes)
    rows = lines(draft, "rows.jsonl")
    assert wrong(rows) <= most_wrong
    assert len(rows) >= least_rows
    assert len(rows) + sum(draft.body.rejected.values()) == 120
    if grounding == "never":
        assert wrong(rows) >= 15
    if votes == 1 and grounding == "auto":
        assert set(draft.body.rejected) == {"value not in context"}
    if votes > 1:
        assert draft.body.rejected["answers disagree"] >= 30


def test_no_vote_repeats_another_s_words_or_examples(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    heard: list[Request] = []
    proposed(tmp_path, store, weak, dataset, heard=heard, rows=1, votes=3)
    asked = [request for request in heard if request.id != "propose-000000"]
    assert len(asked) == 3
    assert len({request.seed for request in asked}) == 3
    assert len({request.messages[0]["content"][:40] for request in asked}) == 2
    shown = [json.dumps(inside([dict(t) for t in request.messages])) for request in asked]
    assert len(set(shown)) == 3
    assert {request.temperature for request in asked} == {0.0}


@pytest.mark.parametrize("generator", ["paraphrase", "hard_negative"])
def test_who_answers_a_known_question_is_not_shown_its_answer(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    generator: str,
) -> None:
    heard: list[Request] = []
    _, rows = proposed(tmp_path, store, weak, dataset, heard=heard, generator=generator, rows=4)
    votes = [request for request in heard if request.temperature == 0.0]
    assert len(votes) == 8
    for request in votes:
        given = inside([dict(turn) for turn in request.messages])
        assert all(solved(given["question"]) != solved(e["question"]) for e in given["examples"])
    # A paraphrase keeps the answer of its row to the letter, its group and its domain.
    known = {row["row_id"]: row for row in made.training(8)}
    for row in rows:
        old = known[row["parents"][0]]
        assert row["completion"] == old["messages"][1]["content"]
        assert row["group"] == old["group"]


def answering(said: Callable[[dict[str, Any], int], str]) -> Callable[[Messages], str]:
    """Good questions; `said` answers them, the second time over if its number is 2."""

    def reply(messages: Messages) -> str:
        given = inside(messages)
        if "question" not in given:
            return teach(messages)
        again = messages[0]["content"].startswith("Below are solved")
        return json.dumps({"answer": said(given, 2 if again else 1)})

    return reply


def right(given: dict[str, Any]) -> str:
    return json.dumps(solved(given["question"]))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (lambda given, vote: right(given) if vote == 1 else "{}", "answers disagree"),
        (lambda given, vote: '{"metal": "tin"}', "another form than the answers of its kind"),
        (lambda given, vote: "no record", "another form than the answers of its kind"),
        (
            lambda given, vote: json.dumps(solved(given["question"]) | {"grams": 1}),
            "value not in context",
        ),
        (lambda given, vote: right(given) if vote == 1 else "", "not answered each time"),
    ],
    ids=["disagree", "other fields", "no record", "made up", "silent"],
)
def test_every_question_without_a_row_says_why(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    said: Callable[[dict[str, Any], int], str],
    reason: str,
) -> None:
    with pytest.raises(NothingProposed) as failed:
        proposed(tmp_path, store, weak, dataset, answering(said), rows=3)
    assert failed.value.rejected[reason] == 3


def test_an_answer_that_is_not_the_known_one_is_refused(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    def said(messages: Messages) -> str:
        given = inside(messages)
        if messages[0]["content"].startswith("You put questions"):
            return teach(messages)
        return json.dumps({"answer": solved(given["question"]) | {"metal": "tinsel"}})

    with pytest.raises(NothingProposed) as failed:
        proposed(tmp_path, store, weak, dataset, said, generator="paraphrase", rows=2)
    assert failed.value.rejected == {"answers disagree": 2}


def test_rows_in_words_are_neither_held_to_a_form_nor_to_their_questions(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    rows = [
        made.training_row(f"t{n}", made.asked("furnace", 900 + n), f"It was {n}.", "furnace")
        for n in range(5)
    ]
    dataset = made.dataset(store, rows)
    said = answering(lambda given, vote: "It was warm.")
    _, new = proposed(tmp_path, store, weak, dataset, said, rows=2)
    assert [row["completion"] for row in new] == ["It was warm."] * 2
    _, same = proposed(tmp_path / "b", store, weak, dataset, said, rows=2, grounding="always")
    assert [row["completion"] for row in same] == ["It was warm."] * 2


def test_a_kind_of_one_row_has_no_other_examples(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    dataset = made.dataset(store, made.training(1))
    heard: list[Request] = []
    proposed(tmp_path, store, weak, dataset, heard=heard, generator="paraphrase", rows=1)
    votes = [inside([dict(t) for t in r.messages]) for r in heard if r.temperature == 0.0]
    assert [given["examples"] for given in votes] == [[], []]
