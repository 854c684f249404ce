from __future__ import annotations

from collections import Counter

import pytest

from nexa.core import events
from nexa.core.errors import EvalError
from nexa.core.plugins import UnknownPlugin
from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.suite import FreezeSpec, Question, choose, freeze, read_suite
from tests.eval import made


def question(row_id: str, group: str = "", domain: str | None = None) -> Question:
    return Question(row_id, group or row_id, domain, ({"role": "user", "content": "?"},), "!")


def test_a_suite_says_what_it_asks_and_how_it_is_scored(
    store: Store, suite: Artifact[SuiteBody]
) -> None:
    body = suite.body
    assert (body.task, body.primary, body.rows, body.groups) == ("json_record", "exact", 12, 10)
    assert body.domains == {"hard": 8, "soft": 4}
    assert body.metrics == ["exact", "valid_json", "schema", "field_accuracy", "field_f1"]
    questions = read_suite(suite, store)
    assert len(questions) == 12
    for asked in questions:
        assert [turn["role"] for turn in asked.messages] == ["user"]
        assert asked.target.startswith('{"metal": ')
        assert asked.group in asked.messages[0]["content"]


def test_the_same_dataset_gives_the_same_suite(
    store: Store, dataset: Artifact[DatasetBody], suite: Artifact[SuiteBody]
) -> None:
    again = freeze(
        FreezeSpec(name="other", rows=12, max_new_tokens=24), dataset=dataset, store=store
    )
    assert made.seal(again, store, dataset=dataset).files == suite.files


def test_every_group_is_asked_before_any_is_asked_twice() -> None:
    questions = [question(f"{group}{i}", group) for group in "abcdefgh" for i in range(5)]
    chosen = choose(questions, 12)
    asked = Counter(q.group for q in chosen)
    assert len(asked) == 8
    assert set(asked.values()) == {1, 2}


def test_domains_are_asked_in_proportion_and_none_is_left_out() -> None:
    sizes = {"big": 88, "middle": 10, "tiny": 2}
    questions = [question(f"{d}{i}", domain=d) for d, n in sizes.items() for i in range(n)]
    chosen = Counter(q.domain for q in choose(questions, 16))
    assert chosen == {"big": 14, "middle": 1, "tiny": 1}
    few = Counter(q.domain for q in choose(questions, 2))
    assert few == {"big": 2}


def test_small_domains_take_their_row_from_the_largest() -> None:
    sizes = {"big": 96, "a": 1, "b": 1, "c": 1, "d": 1}
    questions = [question(f"{d}{i}", domain=d) for d, n in sizes.items() for i in range(n)]
    assert Counter(q.domain for q in choose(questions, 8)) == {
        "big": 4,
        "a": 1,
        "b": 1,
        "c": 1,
        "d": 1,
    }


def test_new_rows_mostly_leave_the_chosen_ones() -> None:
    old = [question(f"row{i}") for i in range(100)]
    before = {q.id for q in choose(old, 50)}
    after = {q.id for q in choose([*old, *(question(f"new{i}") for i in range(5))], 50)}
    assert len(before & after) >= 45


def test_a_small_held_out_split_is_asked_whole_and_says_so(store: Store) -> None:
    held = made.dataset(store, {"eval": made.record_rows(notes=1)})
    heard: list[events.Event] = []
    with events.listening(heard.append):
        draft = freeze(FreezeSpec(name="small"), dataset=held, store=store)
    assert draft.body.rows == 10
    assert ["holds out no more" in event["text"] for event in heard] == [True]


def test_text_answers_are_scored_as_text(store: Store) -> None:
    rows = [made.row(f"r{i}", f"Say {i}", f"It is {i}.") for i in range(4)]
    held = made.dataset(store, {"eval": rows}, "sayings")
    spec = FreezeSpec(name="text", rows=4, metrics=("exact_match",))
    body = freeze(spec, dataset=held, store=store).body
    assert (body.task, body.primary) == ("text", "token_f1")
    assert body.metrics == ["token_f1", "exact_match"]
    assert body.domains == {}
    alone = freeze(
        FreezeSpec(name="text", rows=4, metrics=("token_f1",)), dataset=held, store=store
    )
    assert alone.body.metrics == ["token_f1"]


def test_a_task_or_metric_that_does_not_fit_is_refused(store: Store) -> None:
    rows = [made.row("r", "Say so", "So.")]
    held = made.dataset(store, {"eval": rows}, "sayings")
    with pytest.raises(EvalError, match="not what task 'json_record' scores"):
        freeze(FreezeSpec(name="x", task="json_record"), dataset=held, store=store)
    with pytest.raises(UnknownPlugin, match="json_record"):
        freeze(FreezeSpec(name="x", task="json_recrod"), dataset=held, store=store)
    with pytest.raises(EvalError, match=r"no metric 'exactmatch'(.|\n)*exact_match"):
        freeze(FreezeSpec(name="x", metrics=("exactmatch",)), dataset=held, store=store)


def test_a_text_is_asked_by_its_beginning(store: Store) -> None:
    text = {"role": "text", "content": "Iron melts at 1811 kelvin and boils at 3134."}
    rows = [{**made.row("r1", "", ""), "messages": [text]}]
    draft = freeze(FreezeSpec(name="x"), dataset=made.dataset(store, {"eval": rows}), store=store)
    (asked,) = read_suite(made.seal(draft, store), store)
    assert asked.messages == ({"role": "text", "content": "Iron melts at 1811 kelvin and"},)
    assert asked.target == "boils at 3134."
    rows[0]["messages"] = [{"role": "text", "content": "Iron"}]
    with pytest.raises(EvalError, match="r1 cannot be asked"):
        freeze(FreezeSpec(name="x"), dataset=made.dataset(store, {"eval": rows}), store=store)


def test_a_dataset_without_held_out_rows_is_refused(store: Store) -> None:
    rows = made.record_rows()
    for splits in ({"train": rows}, {"train": rows, "eval": []}):
        held = made.dataset(store, splits)
        with pytest.raises(EvalError, match=r"no rows in its split 'eval'(.|\n)*eval_path"):
            freeze(FreezeSpec(name="x"), dataset=held, store=store)


def test_rows_that_cannot_be_asked_are_refused(store: Store) -> None:
    unanswered = made.row("r1", "a", "b")
    unanswered["messages"] = unanswered["messages"][:1]
    with pytest.raises(EvalError, match=r"r1 cannot be asked(.|\n)*user"):
        freeze(
            FreezeSpec(name="x"), dataset=made.dataset(store, {"eval": [unanswered]}), store=store
        )
    twice = made.dataset(store, {"eval": [made.row("r1", "a", "b"), made.row("r1", "c", "d")]})
    with pytest.raises(EvalError, match="r1 more than once"):
        freeze(FreezeSpec(name="x"), dataset=twice, store=store)
    with pytest.raises(EvalError, match="rows 0"):
        freeze(FreezeSpec(name="x", rows=0), dataset=twice, store=store)
