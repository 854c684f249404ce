from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nexa.core.errors import AccessError, ModelError
from nexa.core.events import Event, listening
from nexa.lm.client import Completion, RequestFailed, TooLong, request_key
from nexa.lm.openai_api import OpenAIChat
from tests.lm.asked import KEY, SCHEMA, complete, place, request
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint


def chat(endpoint: ScriptedEndpoint, *, key: str = KEY, official: bool = False) -> OpenAIChat:
    return OpenAIChat("m", "m", place(endpoint.url, key=key), price=None, official=official)


def failure(script: Script, **more: Any) -> RequestFailed:
    """What a request fails with."""
    with ScriptedEndpoint(script) as endpoint, pytest.raises(RequestFailed) as caught:
        complete(chat(endpoint), request(), **more)
    return caught.value


def test_a_request_comes_back_as_an_answer() -> None:
    with ScriptedEndpoint() as endpoint:
        model = chat(endpoint)
        [made] = complete(model, request("hello", seed=7))
        [again] = complete(model, request("hello", seed=7))  # on a connection of its own
    sent = endpoint.received[0]
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 50,
        "temperature": 0.0,
        "seed": 7,
    }
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["idempotency-key"] == request_key(model.identity, request(seed=7))
    assert made.text == again.text == "answer to: hello"
    assert (made.finish, made.model) == ("stop", "m-scripted")
    assert (made.input_tokens, made.output_tokens, made.extra) == (2, 4, {})
    assert made.latency_s > 0
    assert len(endpoint.billed) == 1


def test_a_server_of_this_machine_needs_no_key_and_hears_of_no_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "of-the-account")
    with ScriptedEndpoint() as endpoint:
        complete(chat(endpoint, key=""), request())
    assert "of-the-account" not in str(endpoint.received)


def test_the_key_follows_no_redirect() -> None:
    with ScriptedEndpoint() as other:
        script = Script(faults=[Fault("redirect", location=f"{other.url}/chat/completions")])
        with ScriptedEndpoint(script) as endpoint, pytest.raises(ModelError, match="elsewhere"):
            complete(chat(endpoint), request())
        assert other.received == []


def test_usage_that_is_not_told_is_estimated_and_marked() -> None:
    with ScriptedEndpoint(Script(usage=False)) as endpoint:
        [made] = complete(chat(endpoint), request("hello"))
    assert (made.input_tokens, made.output_tokens) == (2 + 2 + 16, 6)
    assert made.extra == {"tokens": "estimated"}


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "refused"), ("refusal", "refused")],
)
def test_an_answer_says_how_it_ended(finish: str, expected: str) -> None:
    script = Script(answers=[{"answer": "so far", "finish": finish}])
    with ScriptedEndpoint(script) as endpoint:
        [made] = complete(chat(endpoint), request())
    assert (made.text, made.finish) == ("so far", expected)


@pytest.mark.parametrize("do", ["drop", "drop-reply", "drop-body", "malformed", "no-choices"])
def test_a_lost_or_broken_answer_may_have_been_paid_for_and_may_come_later(do: str) -> None:
    error = failure(Script(faults=[Fault(do)]))
    assert (error.temporary, error.billed) == (True, True)


@pytest.mark.parametrize("do", ["hang", "slow"])
def test_an_answer_that_takes_too_long_is_given_up(do: str) -> None:
    error = failure(Script(faults=[Fault(do, hold_s=0.2)]), timeout_s=0.1)
    assert error.what == "no answer in time"
    assert (error.temporary, error.billed) == (True, True)


def test_a_server_that_is_not_there_costs_nothing() -> None:
    with ScriptedEndpoint() as endpoint:
        gone = chat(endpoint)
    asyncio.run(gone.close())  # of what was never opened
    assert gone.count_tokens(request("hello")) == 20
    with pytest.raises(RequestFailed, match=r"cannot connect to 127\.0\.0\.1") as caught:
        complete(gone, request())
    assert (caught.value.temporary, caught.value.billed) == (True, False)


def test_refusals_have_their_classes() -> None:
    error = failure(Script(faults=[Fault("status", status=503, headers={"Retry-After": "3"})]))
    assert (error.temporary, error.retry_after_s) == (True, 3.0)
    assert isinstance(failure(Script(context_tokens=20)), TooLong)
    with (
        ScriptedEndpoint(Script(models=["other"])) as endpoint,
        pytest.raises(ModelError, match="no model 'm'"),
    ):
        complete(chat(endpoint), request())
    with (
        ScriptedEndpoint(Script(api_key="another")) as endpoint,
        pytest.raises(AccessError, match="refuses the key") as caught,
    ):
        complete(chat(endpoint), request())
    assert KEY not in str(caught.value)


def notes(
    script: Script, *requests: Any, official: bool = False
) -> tuple[list[str], list[Completion]]:
    """What is noted, and the answers."""
    heard: list[Event] = []
    with ScriptedEndpoint(script) as endpoint, listening(heard.append):
        made = complete(chat(endpoint, official=official), *requests)
    address = endpoint.url.split("/")[2]
    told = [event["text"].replace(address, "HOST") for event in heard if event["kind"] == "note"]
    return told, made


def test_a_schema_is_sent_and_one_that_is_refused_is_left_out_and_told_once() -> None:
    asked = [request(f"q{i}", json_schema=SCHEMA) for i in range(4)]
    with ScriptedEndpoint() as endpoint:
        [made] = complete(chat(endpoint), asked[0])
    held = {"name": "answer", "schema": SCHEMA, "strict": True}
    sent = endpoint.received[0].body["response_format"]
    assert sent == {"type": "json_schema", "json_schema": held}
    assert made.extra == {}
    told, answers = notes(Script(json_schema="refuse"), *asked)
    assert told == ["m is asked without response_format: HOST refuses it"]
    assert [one.extra for one in answers] == [{"without": ["response_format"]}] * 4


def test_another_body_has_another_idempotency_key_and_the_same_one_after_a_restart() -> None:
    asked = request(json_schema=SCHEMA)
    with ScriptedEndpoint(Script(json_schema="refuse")) as endpoint:
        for _ in range(2):
            model = chat(endpoint)
            complete(model, asked)
    key = request_key(model.identity, asked)
    assert [received.key for received in endpoint.received] == [key, f"{key}-1"] * 2
    assert len(endpoint.billed) == 1


def test_options_that_a_server_refuses_are_left_out_and_recorded() -> None:
    script = Script(refuses=["temperature", "seed"])
    told, [plain, seeded] = notes(script, request("a"), request("b", seed=1))
    assert sorted(told) == [
        f"m is asked without {o}: HOST refuses it" for o in ("seed", "temperature")
    ]
    assert plain.extra == {"without": ["temperature"]}
    assert sorted(seeded.extra["without"]) == ["seed", "temperature"]


@pytest.mark.parametrize("official", [True, False])
def test_the_limit_is_told_by_the_name_that_the_server_knows(official: bool) -> None:
    unknown = ["max_tokens", "max_completion_tokens"][official]
    told, [made] = notes(Script(refuses=[unknown]), request(), official=official)
    assert told == []
    assert (made.text, made.extra) == ("answer to: hello", {})
    error = failure(Script(refuses=["max_tokens", "max_completion_tokens"]))
    assert "max_" in str(error.found)
    assert not error.temporary


def test_another_refusal_is_not_taken_for_an_options() -> None:
    error = failure(Script(refuses=["messages"]))
    assert error.what.endswith("answered with status 400 (unsupported_parameter)")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [7]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"content": ["parts"]}}]},
    ],
)
def test_an_answer_of_another_form_cannot_be_read(
    body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.support.scripted_endpoint.completion", lambda *_, **__: json.dumps(body).encode()
    )
    assert failure(Script()).billed


def test_an_empty_answer_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"choices": [{"message": {"content": None}}], "usage": 7}
    monkeypatch.setattr(
        "tests.support.scripted_endpoint.completion", lambda *_, **__: json.dumps(body).encode()
    )
    with ScriptedEndpoint() as endpoint:
        [made] = complete(chat(endpoint), request())
    assert (made.text, made.finish, made.model) == ("", "stop", "m")
