"""The step `propose`: what the teacher is shown, and what becomes a row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nexa.core.errors import BudgetSpent, DataError, UsageError
from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from nexa.data.filters import leaks
from nexa.data.prepare import PrepareSpec
from nexa.data.sources import Source
from nexa.data.synthetic import prepare_synthetic
from nexa.feedback.feedback_generators.asking import (
    NothingProposed,
    ProposeSpec,
    propose,
    requests_of,
)
from nexa.feedback.feedback_generators.closed import LEAK, grams
from nexa.feedback.weakness_analysis import WeaknessSpec, weakness
from nexa.lm.client import Request
from nexa.lm.requests import Pace
from nexa.lm.resolve import resolve
from tests.feedback import made
from tests.feedback.teaching import (
    Messages,
    inside,
    lines,
    proposed,
    solved,
    teach,
    teacher_of,
)

GENERATORS = ("teacher", "paraphrase", "hard_negative")


@pytest.mark.parametrize("generator", GENERATORS)
def test_rows_are_right_of_the_weak_kind_and_answered_twice(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    generator: str,
) -> None:
    draft, rows = proposed(tmp_path, store, weak, dataset, generator=generator)
    assert len(rows) == 8
    for row in rows:
        assert row["domain"] == "furnace"
        assert json.loads(row["completion"]) == solved(row["prompt"])
        assert list(json.loads(row["completion"])) == ["metal", "kelvin", "grams"]
        assert row["teacher"] == "wise"
        assert all(parent.startswith("t-furnace-") for parent in row["parents"])
    body = draft.body
    assert (body.method, body.requested, body.rows) == (generator, 8 * 3, 8)
    assert {"answer-v1", "answer_again-v1"} < set(body.templates)
    assert body.cost_usd is not None
    assert body.rejected == {}
    assert (draft.kind, draft.name) == ("synthetic", "new")


@pytest.mark.parametrize("generator", GENERATORS)
def test_no_thirteen_words_of_the_suite_go_out_in_any_request(
    tmp_path: Path, store: Store, dataset: Artifact[DatasetBody], generator: str
) -> None:
    """A training row and a fact that quote the suite are there to be let slip."""
    asked = made.prompts(12)
    weak = made.weak(store, asked)
    leaky = made.training(6)
    leaky += [
        made.training_row(
            "leak", f"Once more: {made.asked('furnace', 3)}", made.answer("furnace", 3), "furnace"
        )
    ]
    trained = made.dataset(store, leaky, "leaky")
    heard: list[Request] = []
    facts = (made.asked("letter", 5), "Tungsten melts at 3695 kelvin, more than any other metal.")
    texts = {row["id"]: '{"kelvin": 0}' for row in asked}
    suite = store.by_digest(weak.body.suite_digest)
    answers = made.answers(store, suite, texts)
    scored = made.scores(
        store,
        suite,
        made.mark(asked, made.right_but_for(made.WEAK)),
        "answered",
        answers_digest=answers.digest,
    )
    found = weakness(
        WeaknessSpec(name="w", by=("domain", "length", "cluster")),
        suite=suite,
        scores=scored,
        store=store,
    )
    draft, _ = proposed(
        tmp_path,
        store,
        made.seal(store, found, suite=suite, scores=scored),
        trained,
        heard=heard,
        generator=generator,
        facts=facts,
        rows=6,
        answers=answers,
    )
    told = {gram for r in heard for turn in r.messages for gram in grams(turn["content"])}
    closed = {gram for row in asked for turn in row["messages"] for gram in grams(turn["content"])}
    # What every row of a kind says is no row's own; here no two rows share thirteen words.
    assert len(heard) == 6 * 3
    assert not told & closed
    assert not any(
        row["id"] in turn["content"] for r in heard for turn in r.messages for row in asked
    )
    assert draft.body.rejected["would show a held-out row"] == 2
    assert {line["id"] for line in lines(draft, "rejects.jsonl")} == {"leak", "fact 1"}
    if generator == "teacher":
        assert any("Tungsten" in r.messages[-1]["content"] for r in heard)


def test_more_rows_ask_only_for_more(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    first, few = proposed(tmp_path, store, weak, dataset, rows=3)
    more, all_ = proposed(tmp_path, store, weak, dataset, rows=5)
    assert all_[:3] == few
    assert (first.body.cached, more.body.cached) == (0, 9)


def test_an_echo_of_the_suite_is_refused_and_counted(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    heard: list[Request] = []

    def echo(messages: Messages) -> str:
        given = inside(messages)
        if "question" in given:
            return teach(messages)
        number = len(heard)
        return json.dumps({"question": made.asked("furnace", 2 if number % 2 else 5000 + number)})

    draft, rows = proposed(tmp_path, store, weak, dataset, echo, heard, rows=8)
    assert draft.body.rejected[LEAK] == 8 - len(rows) == 4
    assert leaks.LEAK == LEAK
    # Nobody is asked to answer them.
    assert len(heard) == 8 + 4 * 2


def test_where_no_question_gave_a_row_the_reasons_are_counted(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    def echo(messages: Messages) -> str:
        assert "question" not in inside(messages)
        return json.dumps({"question": made.asked("furnace", 2)})

    with pytest.raises(NothingProposed, match="leaks a held-out row 8") as failed:
        proposed(tmp_path, store, weak, dataset, echo)
    assert failed.value.rejected == {LEAK: 8}


def test_a_question_that_comes_again_is_answered_once(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    def said(messages: Messages) -> str:
        if "question" in inside(messages):
            return teach(messages)
        return json.dumps({"question": made.asked("furnace", 5000)})

    heard: list[Request] = []
    draft, rows = proposed(tmp_path, store, weak, dataset, said, heard, rows=4)
    assert len(rows) == 1
    assert draft.body.rejected == {"asked before": 3}
    assert len(heard) == 4 + 2


def test_talks_keep_their_system_turns_and_texts_are_no_examples(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody]
) -> None:
    rows = made.training(3, domains=["furnace"])
    for row in rows:
        row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    text = made.training_row("text", "?", "!", "furnace")
    text["messages"] = [{"role": "text", "content": "plain words"}]
    dataset = made.dataset(store, [*rows, text])
    for generator in GENERATORS:
        _, new = proposed(tmp_path / generator, store, weak, dataset, generator=generator, rows=2)
        assert all(row["prompt"][0]["content"] == "Be brief." for row in new)
        assert all("text" not in row["parents"] for row in new)


def test_an_estimate_counts_every_question_and_every_vote(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    heard: list[Request] = []
    spec = ProposeSpec(name="new", teacher=teacher_of(tmp_path, heard=heard), rows=4, votes=2)
    requests = requests_of(spec, weakness=weak, dataset=dataset, store=store)
    assert len(requests) == len({request.id for request in requests}) == 12
    propose(spec, weakness=weak, dataset=dataset, store=store)
    assert [r.messages for r in heard[:4]] == [r.messages for r in requests[:4]]


def test_a_budget_keeps_what_was_answered(
    tmp_path: Path, store: Store, weak: Artifact[WeaknessBody], dataset: Artifact[DatasetBody]
) -> None:
    teacher = teacher_of(tmp_path)
    tight = replace(teacher, pace=Pace(budget_usd=0.01, concurrency=1))
    spec = ProposeSpec(name="new", teacher=tight, rows=8, max_new_tokens=200)
    with pytest.raises(BudgetSpent):
        propose(spec, weakness=weak, dataset=dataset, store=store)
    enough = replace(spec, teacher=replace(teacher, pace=Pace(budget_usd=5.0)))
    draft = propose(enough, weakness=weak, dataset=dataset, store=store)
    assert 0 < draft.body.cached < 24
    assert draft.body.rows == 8


def test_what_cannot_be_proposed_is_refused(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    notes: list[str],
) -> None:
    with pytest.raises(UsageError, match="pool asks no teacher: its step is select"):
        proposed(tmp_path, store, weak, dataset, generator="pool")
    with pytest.raises(UsageError, match="rows 8, votes 0"):
        proposed(tmp_path, store, weak, dataset, votes=0)
    strong = made.weak(store, score=made.right_but_for())
    with pytest.raises(UsageError, match="has no weak slice: there is nothing to ask for"):
        proposed(tmp_path, store, strong, dataset)
    elsewhere = made.dataset(store, made.training(3, domains=["letter"]), "letters")
    with pytest.raises(DataError, match=r"no training row of a weak slice[\s\S]*domain=furnace"):
        proposed(tmp_path, store, weak, elsewhere)
    assert "there is no training row of domain=furnace to show to the teacher" in notes


def test_what_was_written_is_prepared_as_candidates_are(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    tiny_llama: Path,
) -> None:
    draft, _ = proposed(tmp_path, store, weak, dataset)
    synthetic = made.seal(store, draft, weakness=weak, dataset=dataset)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(store.path(synthetic, "rows.jsonl").read_bytes())
    model = resolve(str(tiny_llama))
    model.config["max_position_embeddings"] = 1 << 16
    spec = PrepareSpec("c", (Source.of(path, "new.jsonl"),), model, scratch=tmp_path)
    suite = store.by_digest(weak.body.suite_digest)
    prepared = prepare_synthetic(spec, synthetic=synthetic, suite=suite, store=store)
    assert sum(split.rows for split in prepared.body.splits.values()) == 8
    assert prepared.body.domains == {"furnace": 8}
