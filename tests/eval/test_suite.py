from __future__ import annotations

from collections import Counter

import pytest

from nexa.core import events
from nexa.core.errors import EvalError
from nexa.core.plugins import UnknownPlugin
from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.suite import FreezeSpec, Question, choose, freeze, part_of, read_suite
from nexa.eval.tasks.definition import Definition, read_definition
from nexa.eval.tasks.table import frozen_task
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
    short, shown = (event["text"] for event in heard)
    assert "holds out no more" in short
    assert "10 rows in 10 groups cannot be relied on to show even a change of exact by 0.3" in shown


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


def parts(questions: list[Question], share: float = 1 / 3) -> tuple[set[str], set[str]]:
    """Ids of the two parts."""
    analysis, acceptance = (
        {q.id for q in part_of(questions, part, share)} for part in ("analysis", "acceptance")
    )
    return analysis, acceptance


def grouped(sizes: dict[str, int], rows: int = 3) -> list[Question]:
    return [
        question(f"{domain}{group}-{row}", f"{domain}{group}", domain)
        for domain, groups in sizes.items()
        for group in range(groups)
        for row in range(rows)
    ]


def test_two_parts_are_disjoint_and_together_all_in_whole_groups() -> None:
    questions = grouped({"big": 30, "middle": 9, "small": 2, "lone": 1})
    analysis, acceptance = parts(questions)
    assert not analysis & acceptance
    assert analysis | acceptance == {q.id for q in questions}
    groups = {q.id: q.group for q in questions}
    assert not {groups[i] for i in analysis} & {groups[i] for i in acceptance}
    assert part_of(questions, "all", 1 / 3) == questions


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.9])
def test_every_domain_is_in_both_parts_in_proportion(share: float) -> None:
    sizes = {"big": 30, "middle": 10, "small": 2}
    analysis, _ = parts(grouped(sizes), share)
    for domain, groups in sizes.items():
        taken = len({i.split("-")[0] for i in analysis if i.startswith(domain)})
        assert taken == min(max(1, round(share * groups)), groups - 1)


def test_lone_groups_go_to_both_parts_by_their_digests() -> None:
    lone = [question(f"r{i}", domain=f"d{i}") for i in range(300)]
    analysis, _ = parts(lone)
    assert 70 <= len(analysis) <= 130


def test_rows_that_are_added_to_groups_move_nothing_and_groups_move_one_at_most() -> None:
    questions = grouped({"a": 20, "b": 7})
    before, _ = parts(questions)
    more = [question(f"{q.group}-new", q.group, q.domain) for q in questions[::3]]
    after, _ = parts([*questions, *more])
    assert before == {i for i in after if not i.endswith("new")}
    old = {q.id for q in questions}
    for new in range(20):
        after, _ = parts([*questions, question("n", f"new{new}", "a")])
        moved = (after & old) ^ before
        assert len({i.split("-")[0] for i in moved}) <= 1


def test_a_group_in_several_domains_stays_whole() -> None:
    questions = [question(f"{g}{d}", g, d) for g in "abcdef" for d in (None, "x", "y")]
    analysis, acceptance = parts(questions)
    assert (len(analysis), len(acceptance)) == (6, 12)


def test_a_part_is_frozen_and_the_suite_says_which(
    store: Store, dataset: Artifact[DatasetBody]
) -> None:
    asked = {}
    for part in ("analysis", "acceptance"):
        heard: list[events.Event] = []
        with events.listening(heard.append):
            draft = freeze(FreezeSpec(name=part, part=part), dataset=dataset, store=store)
        assert draft.body.part == part
        assert heard[0]["text"].endswith(f"no more for {part}")
        suite = made.seal(draft, store)
        asked[part] = {q.id for q in read_suite(suite, store)}
    assert (len(asked["analysis"]), len(asked["acceptance"])) == (9, 21)
    assert not asked["analysis"] & asked["acceptance"]


def test_a_suite_of_all_rows_has_the_record_it_always_had(suite: Artifact[SuiteBody]) -> None:
    assert suite.body.part is None
    assert "part" not in suite.body.model_dump(mode="json")


def test_parts_that_would_be_empty_are_refused() -> None:
    questions = [question("r1", "g"), question("r2", "g")]
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(EvalError, match="analysis_share"):
            part_of(questions, "analysis", share)
    with pytest.raises(EvalError, match=r"no held-out rows are left for analysis(.|\n)*1 groups"):
        part_of(questions, "analysis", 1e-9)


def test_a_described_task_is_frozen_into_the_suite(store: Store) -> None:
    rows = [made.row("r1", "How far?", "3.2 km"), made.row("r2", "How long?", "5 s")]
    held = made.dataset(store, {"eval": rows}, "lengths")
    said = read_definition("kind: numeric\nmetrics: [rouge1]\nprimary: dimension\n")
    defined = Definition("lengths", said, "0" * 64)
    body = freeze(FreezeSpec(name="x", task=defined), dataset=held, store=store).body
    assert (body.task, body.primary) == ("lengths", "dimension")
    assert body.metrics == ["dimension", "rouge1"]
    assert (body.definition, body.task_sha256) == (said, defined.sha256)
    again = SuiteBody.model_validate_json(body.model_dump_json())
    grade = frozen_task(again).grader(["3.2 km"])
    assert grade("3200 m", "3.2 km").scores["correct"] == 1
    chosen = freeze(
        FreezeSpec(name="x", task=defined, metrics=("correct",)), dataset=held, store=store
    ).body
    assert chosen.metrics == ["correct", "dimension"]
    words = made.dataset(store, {"eval": [made.row("r1", "Which?", "iron")]}, "words")
    with pytest.raises(EvalError, match="no number with a unit"):
        freeze(FreezeSpec(name="x", task=defined), dataset=words, store=store)


def test_a_suite_of_the_table_has_the_record_it_always_had(suite: Artifact[SuiteBody]) -> None:
    told = set(suite.body.model_dump(mode="json"))
    assert told == {"task", "rows", "groups", "domains", "metrics", "primary", "max_new_tokens"}
    assert SuiteBody.model_validate(suite.body.model_dump(mode="json")) == suite.body


def test_a_primary_metric_that_no_task_has_is_refused(store: Store) -> None:
    held = made.dataset(store, {"eval": [made.row("r1", "How far?", "3.2 km")]}, "lengths")
    defined = Definition("x", read_definition("kind: numeric\nprimary: corect\n"), "0" * 64)
    with pytest.raises(EvalError, match=r"no metric 'corect'(.|\n)*try    correct"):
        freeze(FreezeSpec(name="x", task=defined), dataset=held, store=store)
