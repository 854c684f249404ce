from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import BudgetSpent, EvalError
from nexa.core.events import Event, listening
from nexa.core.identity import canonical_json, fingerprint, sha256_bytes
from nexa.core.records import AnswersBody, Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.seals import meet
from nexa.core.store import Store
from nexa.eval.ask import AskSpec, ask, model_ref
from nexa.eval.compare import compare
from nexa.eval.generate import GenerateSpec, generate
from nexa.eval.metrics import ScoreSpec, score
from nexa.eval.suite import FreezeSpec, Question, freeze, read_suite
from nexa.lm.client import Completion, Price, Request
from nexa.lm.requests import Pace
from nexa.lm.resolve import resolve
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teachers import open_model
from nexa.lm.teaching import Teacher
from tests.eval import made
from tests.support.project import notes
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint

PRICE = Price(1.0, 2.0, source="a test")
QUICK = Pace(first_wait_s=0.01, longest_wait_s=0.02, attempts=2)


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(Script(function=lambda messages: "42")) as served:
        yield served


def teacher_at(
    url: str, tmp_path: Path, *, pace: Pace = QUICK, price: Price | None = PRICE
) -> Teacher:
    model = open_model(f"wise@{url}", project=tmp_path, price=price, environment={})
    return Teacher("wise", dict(model.identity), model, tmp_path / "journal.jsonl", pace)


def scripted(answer: Callable[[Request], str], tmp_path: Path) -> Teacher:
    model = ScriptedChat(answer)
    return Teacher("parrot", dict(model.identity), model, tmp_path / "journal.jsonl")


def right(questions: list[Question]) -> Callable[[Request], str]:
    wanted = {question.id: question.target for question in questions}
    return lambda request: wanted[request.id]


def rows_of(draft: Draft[Any], name: str = "answers.jsonl") -> list[dict[str, Any]]:
    data = draft.files[name]
    assert isinstance(data, bytes)
    return [json.loads(line) for line in data.splitlines()]


def test_the_record_says_who_was_asked_what_and_what_it_took(
    store: Store, suite: Artifact[SuiteBody], endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    teacher = teacher_at(endpoint.url, tmp_path)
    draft = ask(AskSpec(teacher, name="wise"), suite=suite, store=store)
    body = draft.body
    assert (body.model.name, body.model.origin) == ("wise", "api:openai")
    assert endpoint.url not in json.dumps(body.model_dump(mode="json"))
    assert body.decoding == {
        "method": "greedy",
        "engine": "api",
        "temperature": 0,
        "max_new_tokens": 24,
    }
    first = [dict(turn) for turn in read_suite(suite, store)[0].messages]
    assert body.first_prompt_sha256 == sha256_bytes(canonical_json(first))
    assert (body.template_sha256, body.general_text_sha256) == ("", "")
    assert (body.general_cross_entropy, body.failed, body.stopped) == (None, 0, 12)
    assert body.served == ["wise-scripted"]
    billed = endpoint.billed
    assert len(billed) == 12
    assert body.spent is not None
    assert body.spent.input_tokens == sum(entry["input_tokens"] for entry in billed)
    assert body.spent.output_tokens == sum(entry["output_tokens"] for entry in billed)
    cost = PRICE.cost_usd(body.spent.input_tokens or 0, body.spent.output_tokens)
    assert body.spent.cost_usd == pytest.approx(cost)
    assert (body.spent.requests, body.spent.price_source) == (12, "a test")
    assert body.spent.latency_s_p50 is not None
    row = rows_of(draft)[0]
    assert (row["text"], row["stopped"], row["finish"]) == ("42", True, "stop")
    assert row["cost_usd"] > 0


def test_who_was_killed_asks_only_for_the_rest(
    store: Store, suite: Artifact[SuiteBody], endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    poor = dataclasses.replace(QUICK, budget_usd=0.0003, concurrency=1)
    with pytest.raises(BudgetSpent):
        ask(
            AskSpec(teacher_at(endpoint.url, tmp_path, pace=poor), name="x"),
            suite=suite,
            store=store,
        )
    paid = len(endpoint.billed)
    assert 0 < paid < 12
    for _ in range(2):
        ask(AskSpec(teacher_at(endpoint.url, tmp_path), name="x"), suite=suite, store=store)
    assert len(endpoint.billed) == 12


def test_questions_without_an_answer_are_missing_and_never_zero(
    store: Store, suite: Artifact[SuiteBody], tmp_path: Path
) -> None:
    fault = Fault(do="status", status=400, when="iron")
    events: list[Event] = []
    with (
        ScriptedEndpoint(Script(function=lambda messages: "{}", faults=(fault,))) as served,
        listening(events.append),
    ):
        draft = ask(AskSpec(teacher_at(served.url, tmp_path), name="w"), suite=suite, store=store)
    lost = [row for row in rows_of(draft) if row["text"] is None]
    assert draft.body.failed == len(lost) > 0
    assert all("iron" in row["id"] and row["problem"] for row in lost)
    assert draft.body.spent is not None
    assert draft.body.spent.requests == 12 - len(lost)
    assert any("have no answer" in note and "missing, not 0" in note for note in notes(events))
    answers = made.seal(draft, store, suite=suite)
    scores = score(ScoreSpec(name="w"), suite=suite, answers=answers, store=store)
    unscored = [row for row in rows_of(scores, "scores.jsonl") if row["exact"] is None]
    assert {row["id"] for row in unscored} == {row["id"] for row in lost}
    assert scores.body.missing is not None
    assert scores.body.missing["exact"] == len(lost)
    assert scores.body.bounds is not None
    assert scores.body.bounds["exact"] == [0.0, pytest.approx(len(lost) / 12)]


def test_no_answer_at_all_is_refused(
    store: Store, suite: Artifact[SuiteBody], tmp_path: Path
) -> None:
    (tmp_path / "table.json").write_text("{}")
    model = ScriptedChat.read(tmp_path / "table.json")
    few = dataclasses.replace(suite, body=suite.body)
    teacher = Teacher("mute", dict(model.identity), model, tmp_path / "journal.jsonl", QUICK)
    questions = read_suite(few, store)
    assert len(questions) > 4
    small = made.seal(
        Draft(
            "suite",
            "small",
            suite.body.model_copy(update={"rows": 2}),
            {
                "prompts.jsonl": b"\n".join(
                    store.path(suite, "prompts.jsonl").read_bytes().split(b"\n")[:2]
                )
                + b"\n"
            },
        ),
        store,
    )
    with pytest.raises(EvalError, match="mute answered none of 2 questions"):
        ask(AskSpec(teacher, name="mute"), suite=small, store=store)


class Odd(ScriptedChat):
    """Refuses one question, cuts another one off, and is told without a temperature."""

    async def complete(self, request: Request, *, timeout_s: float) -> Completion:
        done = await super().complete(request, timeout_s=timeout_s)
        finish = {0: "refused", 1: "length"}.get(len(request.messages[-1]["content"]) % 3, "stop")
        return dataclasses.replace(
            done, finish=finish, text="half \ud800", extra={"without": ["temperature"]}
        )


def test_what_the_server_did_not_take_is_sealed_and_cut_answers_did_not_stop(
    store: Store, suite: Artifact[SuiteBody], tmp_path: Path
) -> None:
    model = Odd(lambda request: "")
    teacher = Teacher("odd", dict(model.identity), model, tmp_path / "journal.jsonl")
    draft = ask(AskSpec(teacher, name="odd"), suite=suite, store=store)
    assert draft.body.decoding["without"] == ["temperature"]
    rows = rows_of(draft)
    assert {row["finish"] for row in rows} >= {"stop"}
    assert all(row["stopped"] == (row["finish"] == "stop") for row in rows)
    assert {row["text"] for row in rows} == {"half ?"}


def test_an_unknown_price_is_no_price(
    store: Store, suite: Artifact[SuiteBody], endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    teacher = teacher_at(endpoint.url, tmp_path, price=None)
    spent = ask(AskSpec(teacher, name="wise"), suite=suite, store=store).body.spent
    assert spent is not None
    assert (spent.cost_usd, spent.price_source) == (None, None)


def test_a_model_of_this_machine_is_not_asked_like_this(
    store: Store, suite: Artifact[SuiteBody], tiny_llama: Path, tmp_path: Path
) -> None:
    model = open_model(str(tiny_llama), project=tmp_path)
    teacher = Teacher("tiny", dict(model.identity), model, tmp_path / "journal.jsonl")
    with pytest.raises(EvalError, match="is a model of this machine"):
        ask(AskSpec(teacher, name="tiny"), suite=suite, store=store)


def test_a_teacher_stands_beside_a_local_model_and_two_unlike_ones_do_not(
    store: Store, suite: Artifact[SuiteBody], tiny_llama: Path, tmp_path: Path
) -> None:
    questions = read_suite(suite, store)
    teacher = scripted(right(questions), tmp_path)
    asked = ask(AskSpec(teacher, name="parrot"), suite=suite, store=store)

    def scored(draft: Draft[AnswersBody], name: str) -> Artifact[Any]:
        answers = made.seal(dataclasses.replace(draft, name=name), store, suite=suite)
        found = score(ScoreSpec(name=name), suite=suite, answers=answers, store=store)
        return made.seal(found, store, suite=suite, answers=answers)

    parrot = scored(asked, "parrot")
    files = resolve(str(tiny_llama))
    local = [
        scored(
            generate(
                GenerateSpec(model=files, name="t", dtype="float32", batch_size=size),
                suite=suite,
                store=store,
            ),
            f"tiny-{size}",
        )
        for size in (4, 8)
    ]
    assert parrot.body.metrics["exact"].mean == 1.0
    assert parrot.body.spent == asked.body.spent
    for one in local:
        assert meet(one.body, parrot.body)
        [exact] = [c for c in compare(suite, one, parrot, store=store) if c.metric == "exact"]
        assert exact.difference.mean == 1.0
    with pytest.raises(EvalError, match="were not taken alike"):
        compare(suite, *local, store=store)


def test_the_model_is_who_is_asked_and_for_what(tmp_path: Path) -> None:
    first, second = (scripted(lambda request: "", tmp_path) for _ in range(2))
    assert model_ref(first) == model_ref(second)
    other = open_model("openai:m", project=tmp_path, environment={"OPENAI_API_KEY": "k"})
    named = Teacher("m", dict(other.identity), other, tmp_path / "j")
    assert model_ref(named).origin == "api:openai"
    assert model_ref(named).digest != model_ref(first).digest


def test_journal_and_name_are_no_part_of_the_recipe(tmp_path: Path) -> None:
    teacher = scripted(lambda request: "", tmp_path)
    spec = AskSpec(teacher, name="a")
    same = AskSpec(dataclasses.replace(teacher, journal=tmp_path / "other"), name="b")
    assert fingerprint("ask", 1, spec, {}) == fingerprint("ask", 1, same, {})
    again = dataclasses.replace(spec, again=1)
    assert fingerprint("ask", 1, spec, {}) != fingerprint("ask", 1, again, {})


def test_a_model_of_an_api_is_not_asked_for_likelihoods(
    store: Store, dataset: Artifact[DatasetBody], tmp_path: Path
) -> None:
    draft = freeze(FreezeSpec(name="likely", task="perplexity"), dataset=dataset, store=store)
    suite = made.seal(draft, store)
    teacher = scripted(lambda request: "", tmp_path)
    with pytest.raises(EvalError, match="perplexity is scored by likelihoods"):
        ask(AskSpec(teacher, name="w"), suite=suite, store=store)
