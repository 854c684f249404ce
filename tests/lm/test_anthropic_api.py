from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nexa.core.errors import AccessError, ModelError
from nexa.core.events import Event, listening
from nexa.lm.anthropic_api import AnthropicChat
from nexa.lm.client import RequestFailed, TooLong, request_key
from tests.lm.asked import KEY, SCHEMA, complete, place, request
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint

VARIABLE = "ANTHROPIC_API_KEY"


def chat(endpoint: ScriptedEndpoint, *, key: str = KEY) -> AnthropicChat:
    return AnthropicChat("claude", "c", place(endpoint.root, VARIABLE, key=key), price=None)


def failure(script: Script, **more: Any) -> RequestFailed:
    """What a request fails with."""
    with ScriptedEndpoint(script) as endpoint, pytest.raises(RequestFailed) as caught:
        complete(chat(endpoint), request(), **more)
    return caught.value


def test_a_request_comes_back_as_an_answer_and_says_what_the_api_lacks() -> None:
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
    )
    asked = request(messages=messages, seed=7, temperature=0.5)
    heard: list[Event] = []
    with ScriptedEndpoint() as endpoint, listening(heard.append):
        model = chat(endpoint)
        [made] = complete(model, asked)
        [plain] = complete(model, request())
    sent = endpoint.received[0]
    assert sent.body == {
        "model": "c",
        "system": "be brief",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 50,
    }
    assert KEY in (sent.headers.get("x-api-key", "") + sent.headers.get("authorization", ""))
    assert sent.headers["idempotency-key"] == request_key(model.identity, asked)
    assert (made.text, made.finish, made.model) == ("answer to: hello", "stop", "c-scripted")
    assert (made.input_tokens, made.output_tokens) == (4, 4)
    assert made.extra == {"without": ["temperature", "seed"]}
    assert plain.extra == {"without": ["temperature"]}
    told = [event["text"] for event in heard]
    assert told == ["claude is asked without temperature and seed: its API has none"]


def test_another_hosts_server_hears_of_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "of-the-account")
    with ScriptedEndpoint() as endpoint:
        complete(chat(endpoint, key=""), request())
    assert "of-the-account" not in str(endpoint.received)


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "refused"), ("tool_use", "stop")],
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


def test_an_answer_without_content_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.support.scripted_endpoint.completion", lambda *_, **__: json.dumps({}).encode()
    )
    assert failure(Script()).found == "no content"


def test_usage_that_is_not_told_is_estimated_and_marked() -> None:
    with ScriptedEndpoint(Script(usage=False)) as endpoint:
        [made] = complete(chat(endpoint), request("hello"))
    assert (made.input_tokens, made.output_tokens) == (2 + 2 + 16, 6)
    assert made.extra["tokens"] == "estimated"


def test_refusals_have_their_classes() -> None:
    error = failure(Script(faults=[Fault("status", status=529, headers={"Retry-After": "3"})]))
    assert (error.temporary, error.retry_after_s) == (True, 3.0)
    assert error.what.endswith("status 529 (overloaded_error)")
    assert isinstance(failure(Script(context_tokens=20)), TooLong)
    with (
        ScriptedEndpoint(Script(models=["other"])) as endpoint,
        pytest.raises(ModelError, match="no model 'c'"),
    ):
        complete(chat(endpoint), request())
    with (
        ScriptedEndpoint(Script(api_key="another")) as endpoint,
        pytest.raises(AccessError, match="ANTHROPIC_API_KEY"),
    ):
        complete(chat(endpoint), request())


def test_a_server_that_is_not_there_costs_nothing() -> None:
    with ScriptedEndpoint() as endpoint:
        gone = chat(endpoint)
    asyncio.run(gone.close())  # of what was never opened
    assert gone.count_tokens(request("hello")) == 20
    with pytest.raises(RequestFailed, match="cannot connect"):
        complete(gone, request())


def test_a_schema_is_sent_and_one_that_is_refused_is_left_out_and_told_once() -> None:
    asked = [request(f"q{i}", json_schema=SCHEMA) for i in range(4)]
    with ScriptedEndpoint() as endpoint:
        complete(chat(endpoint), asked[0])
    held = {"type": "json_schema", "schema": SCHEMA}
    assert endpoint.received[0].body["output_config"] == {"format": held}
    heard: list[Event] = []
    with ScriptedEndpoint(Script(json_schema="refuse")) as endpoint, listening(heard.append):
        answers = complete(chat(endpoint), *asked, request("free"))
    keys = {received.key for received in endpoint.received}
    assert {request_key(chat(endpoint).identity, asked[0]) + end for end in ("", "-1")} <= keys
    assert sum("asked without a schema" in event["text"] for event in heard) == 1
    assert {one.text for one in answers[:4]} == {f"answer to: q{i}" for i in range(4)}
    assert all("output_config" in one.extra["without"] for one in answers[:4])
    assert answers[4].extra == {"without": ["temperature"]}
