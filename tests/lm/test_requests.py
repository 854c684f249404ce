from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import AccessError, BudgetSpent, ModelError, StorageError, UsageError
from nexa.core.events import Event, EventLog, listening
from nexa.core.interrupts import Interrupted, stoppable
from nexa.core.secrets import Secret, redact
from nexa.lm import journal as journal_module
from nexa.lm import requests as requests_module
from nexa.lm.client import ChatModel, Price, Request, RequestFailed
from nexa.lm.journal import read_journal
from nexa.lm.openai_api import OpenAIChat
from nexa.lm.requests import Answered, Pace, ask_all, estimate
from nexa.lm.scripted_chat import ScriptedChat
from tests.lm.asked import KEY, place, request
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint

PRICE = Price(1.0, 2.0, "the test")
QUICK = Pace(first_wait_s=0.0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def chat(endpoint: ScriptedEndpoint, price: Price | None = PRICE) -> OpenAIChat:
    return OpenAIChat("m", "m", place(endpoint.url), price=price)


def several(count: int, **more: Any) -> list[Request]:
    return [request(f"question {i}", **more) for i in range(count)]


def texts(made: Sequence[Answered]) -> list[str | None]:
    return [one.completion and one.completion.text for one in made]


def spent_usd(endpoint: ScriptedEndpoint) -> float:
    """What the endpoint's own ledger says."""
    return sum(PRICE.cost_usd(e["input_tokens"], e["output_tokens"]) for e in endpoint.billed)


# -- answers ---------------------------------------------------------------------------------


def test_all_are_answered_in_their_order_and_never_asked_again(journal: Path) -> None:
    asked = several(30)
    with ScriptedEndpoint() as endpoint:
        made = ask_all(chat(endpoint), asked, journal=journal, pace=Pace(concurrency=4))
        assert [one.request for one in made] == asked
        assert texts(made) == [f"answer to: question {i}" for i in range(30)]
        assert {(one.cached, one.attempts, one.problem) for one in made} == {(False, 1, "")}
        assert sum(one.cost_usd or 0 for one in made) == pytest.approx(spent_usd(endpoint))
        assert endpoint.most_at_once <= 4
        again = ask_all(chat(endpoint), [*asked[:9], request("new")], journal=journal, pace=QUICK)
    assert texts(again[:9]) == texts(made[:9])
    assert [one.cached for one in again] == [True] * 9 + [False]
    assert [one.cost_usd for one in again[:9]] == [one.cost_usd for one in made[:9]]
    assert len(endpoint.received) == len(endpoint.billed) == 31


def test_equal_requests_are_paid_for_once(journal: Path) -> None:
    asked = [request("same", id=str(i)) for i in range(5)] + [request("same", seed=1, id="s")]
    with ScriptedEndpoint() as endpoint:
        model = chat(endpoint)
        before = estimate(model, asked, journal=journal)
        made = ask_all(model, asked, journal=journal, pace=QUICK)
        after = estimate(model, asked, journal=journal)
    assert len(endpoint.billed) == 2
    assert [one.cached for one in made] == [False, True, True, True, True, False]
    assert len(set(texts(made))) == 1
    assert (before.requests, before.cached, after.cached) == (6, 4, 6)


def test_an_estimate_sends_nothing_and_counts_what_is_not_there_yet(journal: Path) -> None:
    asked = several(3, max_new_tokens=100)
    with ScriptedEndpoint() as endpoint:
        model = chat(endpoint)
        ask_all(model, asked[:1], journal=journal, pace=QUICK)
        told = estimate(model, asked, journal=journal)
        assert len(endpoint.received) == 1
        unknown = estimate(chat(endpoint, None), asked, journal=journal)
    tokens = 2 * model.count_tokens(asked[0])
    assert (told.requests, told.cached) == (3, 1)
    assert (told.input_tokens, told.output_tokens) == (tokens, 200)
    assert told.usd == pytest.approx((tokens + 400) / 1e6)
    assert unknown.usd is None


def test_a_row_that_cannot_be_sent_is_a_problem_of_its_own(journal: Path, tiny_llama: Path) -> None:
    from nexa.lm.teachers import open_model

    asked = [request("fine"), request("half \ud800"), request("x" * 9999)]
    made = ask_all(
        ScriptedChat({"fine": "yes", "x" * 9999: "no"}), asked[:2], journal=journal, pace=QUICK
    )
    assert texts(made) == ["yes", None]
    assert "canonical JSON" in made[1].problem
    local = open_model(str(tiny_llama), project=Path())
    unwritable = request(messages=({"role": "user", "content": "<|im_end|>"},))
    told = estimate(local, [asked[0], unwritable], journal=journal)
    assert told.input_tokens == local.count_tokens(asked[0])
    answered = ask_all(local, asked, journal=journal, pace=QUICK)
    assert [bool(one.problem) for one in answered] == [False, True, True]
    assert "does" in answered[2].problem or "fit" in answered[2].problem


def test_no_requests_have_no_answers(journal: Path) -> None:
    assert ask_all(ScriptedChat({}), [], journal=journal, pace=QUICK) == []


# -- faults ----------------------------------------------------------------------------------


def test_whatever_goes_wrong_on_the_way_loses_nothing(journal: Path) -> None:
    kinds = ["status", "drop", "drop-reply", "drop-body", "malformed", "no-choices", "hang"]
    faults = [Fault(kind, share=0.1, attempts=(1, 2), hold_s=0.3) for kind in kinds]
    faults.append(Fault("status", status=429, headers={"Retry-After": "0"}, attempts=(1,)))
    pace = Pace(first_wait_s=0.001, timeout_s=0.2, budget_usd=1.0, attempts=9)
    with ScriptedEndpoint(Script(faults=faults, seed=3)) as endpoint:
        made = ask_all(chat(endpoint), several(60), journal=journal, pace=pace)
    assert texts(made) == [f"answer to: question {i}" for i in range(60)]
    assert len(endpoint.billed) == 60
    assert {one.attempts for one in made} >= {2, 3}
    entries = read_journal(journal)
    assert entries.paid_usd == pytest.approx(spent_usd(endpoint))
    assert entries.lost > 0
    assert entries.spent_usd <= 1.0


def test_a_server_that_says_when_to_come_again_is_not_asked_before(journal: Path) -> None:
    faults = [Fault("status", status=429, headers={"retry-after-ms": "200"}, times=1)]
    with ScriptedEndpoint(Script(faults=faults)) as endpoint:
        pace = Pace(first_wait_s=0.0, concurrency=1)
        ask_all(chat(endpoint), several(2), journal=journal, pace=pace)
    first, second, _ = (received.at for received in endpoint.received)
    assert second - first >= 0.2


def test_a_server_that_asks_for_too_long_a_wait_is_not_asked_again(journal: Path) -> None:
    faults = [Fault("status", status=429, headers={"Retry-After": "3600"}, times=1)]
    with ScriptedEndpoint(Script(faults=faults)) as endpoint:
        [made] = ask_all(chat(endpoint), several(1), journal=journal, pace=QUICK)
    assert (
        made.problem == f"{endpoint.url.split('/')[2]} answered with status 429 (planted): planted"
    )
    assert len(endpoint.received) == 1


def test_attempts_end_and_the_row_says_why(journal: Path) -> None:
    faults = [Fault("status", status=502, when="question 1")]
    with ScriptedEndpoint(Script(faults=faults)) as endpoint:
        pace = Pace(first_wait_s=0.0, attempts=3)
        made = ask_all(chat(endpoint), several(3), journal=journal, pace=pace)
        again = ask_all(chat(endpoint), several(3), journal=journal, pace=pace)
    assert [(one.attempts, bool(one.problem)) for one in made] == [
        (1, False),
        (3, True),
        (1, False),
    ]
    assert "status 502" in made[1].problem
    assert [one.cached for one in again] == [True, False, True]  # what failed is asked again
    assert len(endpoint.received) == 5 + 3


def test_a_rate_spreads_the_requests(journal: Path) -> None:
    ask_all(ScriptedChat({"*": ""}), several(4), journal=journal, pace=Pace(per_minute=1200))
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    at = [datetime.fromisoformat(line["at"]) for line in lines if "sent" in line]
    assert (at[-1] - at[0]).total_seconds() >= 0.14  # three gaps of 50 ms, told in whole ones


def test_a_wrong_key_ends_the_work_at_once(journal: Path) -> None:
    with (
        ScriptedEndpoint(Script(api_key="another")) as endpoint,
        pytest.raises(AccessError, match="refuses the key"),
    ):
        ask_all(chat(endpoint), several(50), journal=journal, pace=Pace(concurrency=2))
    assert len(endpoint.received) <= 2
    assert read_journal(journal).spent_usd == 0.0


def test_the_same_failure_of_the_first_ones_ends_the_work(journal: Path) -> None:
    faults = [Fault("status", status=422, code="bad")]
    with (
        ScriptedEndpoint(Script(faults=faults)) as endpoint,
        pytest.raises(RequestFailed, match=r"in a row failed alike.*422 \(bad\)"),
    ):
        ask_all(chat(endpoint), several(500), journal=journal, pace=QUICK)
    assert len(endpoint.received) < 50


def test_what_is_no_failure_of_a_request_ends_the_work_as_it_is(journal: Path) -> None:
    def broken(asked: Request) -> str:
        raise ZeroDivisionError(asked.id)

    with pytest.raises(ZeroDivisionError):
        ask_all(ScriptedChat(broken), several(3), journal=journal, pace=QUICK)


def test_a_full_disk_ends_the_work(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.write, 0

    def write(handle: int, data: memoryview) -> int:
        nonlocal count
        count += 1
        if count > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(journal_module.os, "write", write)
    with pytest.raises(StorageError, match="No space left"):
        ask_all(ScriptedChat({"*": "yes"}), several(50), journal=journal, pace=QUICK)
    monkeypatch.undo()
    kept = len(read_journal(journal).answers)
    made = ask_all(ScriptedChat({"*": "yes"}), several(50), journal=journal, pace=QUICK)
    assert sum(one.cached for one in made) == kept


# -- money -----------------------------------------------------------------------------------


def test_a_budget_is_never_passed_and_holds_for_all_runs_of_a_journal(journal: Path) -> None:
    asked = several(40)
    with ScriptedEndpoint() as endpoint:
        model = chat(endpoint)
        for cap in (0.0004, 0.0004, 0.0006):
            pace = Pace(budget_usd=cap, concurrency=4)
            with pytest.raises(BudgetSpent, match="does not reach"):
                ask_all(model, asked, journal=journal, pace=pace)
            assert cap - 0.0002 < spent_usd(endpoint) <= cap
        count = len(endpoint.billed)
        made = ask_all(model, asked, journal=journal, pace=Pace(budget_usd=1.0))
    assert sum(one.cached for one in made) == count
    assert len(endpoint.billed) == 40


def test_what_may_have_been_paid_for_counts_as_paid(journal: Path) -> None:
    faults = [Fault("drop-reply")]
    heard: list[Event] = []
    with ScriptedEndpoint(Script(faults=faults, idempotency=False)) as endpoint:
        model = chat(endpoint)
        pace = Pace(budget_usd=0.0005, first_wait_s=0.0, concurrency=1)
        for _ in range(2):
            with pytest.raises(BudgetSpent), listening(heard.append):
                ask_all(model, several(9), journal=journal, pace=pace)
    assert len(endpoint.billed) == read_journal(journal).lost == 3
    assert spent_usd(endpoint) <= read_journal(journal).lost_usd <= 0.0005
    notes = [event["text"] for event in heard if event["kind"] == "note"]
    assert any("3 times a request of earlier runs went out and no answer came" in t for t in notes)


def test_a_budget_needs_a_price(journal: Path) -> None:
    with ScriptedEndpoint() as endpoint, pytest.raises(UsageError, match=r"(?s)budget.*--price"):
        ask_all(chat(endpoint, None), several(1), journal=journal, pace=Pace(budget_usd=1.0))
    assert not journal.exists()


def test_without_a_price_nothing_is_said_about_cost(journal: Path) -> None:
    with ScriptedEndpoint() as endpoint:
        [made] = ask_all(chat(endpoint, None), several(1), journal=journal, pace=QUICK)
    assert made.cost_usd is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"per_minute": 0},
        {"attempts": 0},
        {"timeout_s": 0.0},
        {"budget_usd": -1.0},
        {"budget_usd": float("nan")},
    ],
)
def test_a_pace_that_cannot_be_kept_is_refused(journal: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ask_all(ScriptedChat({}), several(1), journal=journal, pace=Pace(**wrong))


def test_ids_that_come_twice_are_refused(journal: Path) -> None:
    with pytest.raises(UsageError, match="question 0"):
        ask_all(ScriptedChat({}), several(1) * 2, journal=journal, pace=QUICK)


# -- what is told ----------------------------------------------------------------------------


def test_events_tell_numbers_and_neither_prompts_nor_answers_nor_keys(
    journal: Path, tmp_path: Path
) -> None:
    redact.learn(Secret(KEY, "the test"))
    heard: list[Event] = []
    log = EventLog(tmp_path / "events.jsonl")
    faults = [Fault("status", status=400, message=f"bad question 1, key {KEY}", when="question 1")]
    with ScriptedEndpoint(Script(faults=faults)) as endpoint, listening(heard.append, log):
        made = ask_all(chat(endpoint), several(4), journal=journal, pace=QUICK)
    log.close()
    told = heard[-2]
    numbers = {name: told[name] for name in ("kind", "model", "cached", "answered", "failed")}
    assert numbers == {"kind": "lm.asked", "model": "m", "cached": 0, "answered": 3, "failed": 1}
    assert told["spent_usd"] == pytest.approx(spent_usd(endpoint))
    last = [event for event in heard if event["kind"] == "progress"][-1]
    assert (last["done"], last["total"], last["unit"]) == (4, 4, "rows")
    assert last["rows_per_s"] > 0
    logged = (tmp_path / "events.jsonl").read_text()
    assert "question" not in logged
    assert "answer to" not in logged
    for text in (logged, journal.read_text(), str(made)):
        assert KEY not in text


# -- the end ---------------------------------------------------------------------------------


def at_note(words: str, act: Callable[[], object]) -> Callable[[Event], None]:
    """A sink that acts once, when a note has these words."""
    done: list[bool] = []

    def sink(event: Event) -> None:
        if event["kind"] == "note" and words in event["text"] and not done:
            done.append(True)
            act()

    return sink


def interrupt(number: int = signal.SIGINT) -> None:
    """What a terminal does for Ctrl-C, or a scheduler with SIGTERM."""
    os.kill(os.getpid(), number)


def interrupted_at(
    endpoint: ScriptedEndpoint, journal: Path, number: int, sink: Callable[[Event], None]
) -> Interrupted:
    """Ask, and be interrupted when the third request has been billed."""
    moment = endpoint.stop_at(3, "billed")

    def strike() -> None:
        moment.wait()
        interrupt(number)

    thread = threading.Thread(target=strike)
    thread.start()
    with stoppable(), listening(sink), pytest.raises(Interrupted) as caught:
        ask_all(chat(endpoint), several(50), journal=journal, pace=Pace(concurrency=2))
    thread.join()
    return caught.value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_what_is_under_way_and_keeps_it(journal: Path, number: int) -> None:
    with ScriptedEndpoint() as endpoint:
        let_go = at_note("stopping", lambda: [moment.go.set() for moment in endpoint.moments])
        error = interrupted_at(endpoint, journal, number, let_go)
        count = len(endpoint.billed)
    entries = read_journal(journal)
    assert len(entries.answers) == count < 50
    assert entries.lost == 0
    assert error.number == number
    assert str(count) in str(error.found)
    assert "only for the rest" in str(error.fix)


def test_a_second_interrupt_waits_for_nothing(journal: Path) -> None:
    with ScriptedEndpoint() as endpoint:
        interrupted_at(endpoint, journal, signal.SIGINT, at_note("stopping", interrupt))
    entries = read_journal(journal)
    assert 0 < entries.lost <= 2
    assert len(entries.answers) < 50


def test_the_thread_is_waited_for_whoever_interrupts() -> None:
    class Work:
        """A thread that ends when it is stopped, and in whose wait a signal strikes."""

        alive = True

        def is_alive(self) -> bool:
            return self.alive

        def join(self, timeout_s: float) -> None:
            raise Interrupted

        def stop(self, *, now: bool) -> None:
            self.alive = not now

    work = Work()
    requests_module._join(work, work)  # type: ignore[arg-type]
    assert not work.alive


def test_an_answer_that_does_not_come_in_time_is_not_waited_for(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "GRACE_S", 0.05)
    with ScriptedEndpoint() as endpoint:
        interrupted_at(endpoint, journal, signal.SIGINT, lambda _: None)
    assert 0 < read_journal(journal).lost <= 2


def test_a_pause_that_a_server_asks_for_is_told_and_ends_with_an_interrupt(journal: Path) -> None:
    faults = [Fault("status", status=429, headers={"Retry-After": "250"})]
    with (
        ScriptedEndpoint(Script(faults=faults)) as endpoint,
        stoppable(),
        listening(at_note("m: waiting 250 s, as the server asks", interrupt)),
        pytest.raises(Interrupted),
    ):
        ask_all(chat(endpoint), several(9), journal=journal, pace=QUICK)
    assert read_journal(journal).lost == 0


def test_a_rate_is_not_waited_for_after_an_interrupt(journal: Path) -> None:
    def answer(_: Request) -> str:
        interrupt()
        return "so"

    model: ChatModel = ScriptedChat(answer)
    with pytest.raises(Interrupted, match="interrupted by the user") as caught:
        ask_all(model, several(3), journal=journal, pace=Pace(per_minute=1))
    assert caught.value.number == signal.SIGINT
    assert len(read_journal(journal).answers) == 1


def test_a_model_that_refuses_what_is_asked_of_it_is_not_asked_on(
    journal: Path, tiny_llama: Path
) -> None:
    from nexa.lm.teachers import open_model

    local = open_model(str(tiny_llama), project=Path())
    asked = several(3, temperature=0.7)
    for call in (
        lambda: ask_all(local, asked, journal=journal, pace=QUICK),
        lambda: estimate(local, asked, journal=journal),
    ):
        with pytest.raises(ModelError, match="temperature"):
            call()


def test_the_journal_has_everything_that_is_to_be_known_of_an_answer(journal: Path) -> None:
    with ScriptedEndpoint() as endpoint:
        ask_all(chat(endpoint), several(1), journal=journal, pace=QUICK)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    sent, answered = lines[1:]
    assert sent["key"] == answered["key"] == endpoint.billed[0]["key"]
    assert sent["most_usd"] > answered["cost_usd"] > 0
    assert answered["model"] == "m-scripted"
    assert answered["input_tokens"] == endpoint.billed[0]["input_tokens"]
    assert {"at", "prompt_sha256", "latency_s", "attempts", "finish", "extra"} < set(answered)
    assert "question" not in journal.read_text().replace(answered["text"], "")
