from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from nexa.core.errors import AccessError, ModelError, UsageError
from nexa.core.secrets import Secret, redact
from nexa.lm.chat_http import (
    Refusal,
    checked_url,
    http_client,
    lost,
    parsed,
    patience,
    retry_after_s,
)
from nexa.lm.client import RequestFailed, TooLong
from tests.lm.asked import KEY, place

PLACE = place("https://host.example/v1")


def refusal(status: int, body: Any, **headers: str) -> Refusal:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    return Refusal.of(httpx2.Response(status, headers=headers, **sent))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "in a while"}, None),
        (
            {
                "retry-after": "Fri, 31 Dec 2027 23:59:59 GMT",
                "date": "Fri, 31 Dec 2027 23:59:29 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.0),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 -0000"}, 0.0),
    ],
)
def test_a_server_may_say_how_long_to_wait(told: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(httpx2.Headers(told)) == expected


def test_a_date_without_the_servers_clock_is_read_by_this_machines() -> None:
    wait_s = retry_after_s({"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"})
    assert wait_s is not None
    assert wait_s > 1e6


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_passes_by_itself_is_temporary_and_not_billed(status: int) -> None:
    error = refusal(status, {"error": {"message": "later"}}, **{"Retry-After": "2"}).error(
        PLACE, "m"
    )
    assert isinstance(error, RequestFailed)
    assert (error.temporary, error.billed, error.retry_after_s) == (True, False, 2.0)
    assert error.what == f"host.example answered with status {status}"
    assert error.found == "later"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "context_length_exceeded", "message": "too many"}}),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}),
        (400, {"type": "error", "error": {"type": "x", "message": "prompt is too long: 9 > 8"}}),
        (413, b"<html>"),
    ],
)
def test_too_long_a_prompt_is_a_matter_of_its_row(status: int, body: Any) -> None:
    error = refusal(status, body).error(PLACE, "m")
    assert isinstance(error, TooLong)
    assert f"status {status}" in str(error.found)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}."}}),
        (402, {"error": {"message": "pay first"}}),
        (403, {"detail": "not for you"}),
        (429, {"error": {"code": "insufficient_quota", "message": "check your plan"}}),
        (400, {"error": {"message": "Your credit balance is too low"}}),
    ],
)
def test_a_refused_key_is_named_by_its_source_and_never_shown(status: int, body: Any) -> None:
    redact.learn(Secret(KEY, "the test"))
    error = refusal(status, body).error(PLACE, "m")
    assert isinstance(error, AccessError)
    assert "refuses the key from the environment (OPENAI_API_KEY)" in error.what
    assert KEY not in str(error)
    assert f"status {status}" in str(error)


def test_a_missing_key_is_said_to_be_missing() -> None:
    error = refusal(401, b"").error(place("http://localhost/v1", key=""), "m")
    assert "OPENAI_API_KEY is not set" in str(error)
    assert error.found == "status 401"


def test_an_unknown_model_and_a_redirect_end_the_work() -> None:
    unknown = refusal(404, {"error": "no such thing"}).error(PLACE, "m")
    assert isinstance(unknown, ModelError)
    assert "has no model 'm'" in str(unknown)
    assert "no such thing" in str(unknown)
    elsewhere = refusal(307, b"", Location="https://elsewhere").error(PLACE, "m")
    assert isinstance(elsewhere, ModelError)
    assert "the key goes nowhere else" in str(elsewhere)


def test_other_refusals_are_for_good_and_named_by_their_code() -> None:
    error = refusal(422, {"error": {"code": "bad", "message": "x " * 999}}).error(PLACE, "m")
    assert isinstance(error, RequestFailed)
    assert not error.temporary
    assert error.what == "host.example answered with status 422 (bad)"
    assert len(str(error.found)) <= 300
    silent = refusal(418, {"error": {}}).error(PLACE, "m")
    assert silent.found is None


def test_an_option_is_refused_by_its_name_only() -> None:
    told = {"error": {"message": "Unsupported parameter: 'seed'"}}
    assert refusal(400, told).names("seed")
    assert refusal(422, {"detail": "Unexpected fields: {'seed'}"}).names("seed")
    assert not refusal(400, told).names("temperature")
    assert not refusal(500, told).names("seed")
    assert not refusal(400, {"error": {"message": "seed is below 0"}}).names("seed")


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example/v1",
        "http://127.0.0.1:8000/v1",
        "http://127.1.2.3/v1",
        "http://localhost:1/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_an_address_may_be_https_or_this_machines(url: str) -> None:
    assert checked_url(f" {url}/ ", allow_http=False) == url


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("host.example/v1", "no address"),
        ("ftp://host.example", "no address"),
        ("https://", "no address"),
        ("http://host.example/v1", "clear text"),
        ("http://127.0.0.1.example/v1", "clear text"),
        ("https://me:secret-word@host.example", "no credentials"),
        ("https://host.example/v1?key=secret-word", "no credentials"),
    ],
)
def test_other_addresses_are_refused_without_showing_what_they_hold(url: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        checked_url(url, allow_http=False)
    assert "secret-word" not in str(caught.value)


def test_plain_http_goes_to_another_machine_if_it_is_meant() -> None:
    assert checked_url("http://10.0.0.7:8000/v1", allow_http=True) == "http://10.0.0.7:8000/v1"


def test_proxies_are_for_other_machines_and_redirects_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    near, far = (http_client(url) for url in ("http://127.0.0.1:1/v1", "https://host/v1"))
    assert not near.trust_env
    assert far.trust_env
    assert not near.follow_redirects
    assert not far.follow_redirects


def test_a_connection_that_was_never_made_cost_nothing() -> None:
    error = RuntimeError()
    error.__cause__ = httpx2.ConnectError("refused")
    never = lost(error, PLACE)
    assert (never.temporary, never.billed) == (True, False)
    error.__cause__ = httpx2.ReadError("")
    later = lost(error, PLACE)
    assert (later.temporary, later.billed) == (True, True)
    assert later.found == "ReadError"


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_an_answer_that_is_no_json_object_may_have_been_paid_for(content: bytes) -> None:
    with pytest.raises(RequestFailed, match="cannot be read") as caught:
        parsed(content, PLACE)
    assert caught.value.temporary
    assert caught.value.billed


def test_patience_ends() -> None:
    async def story() -> None:
        async with patience(0.01):
            await asyncio.Event().wait()

    with pytest.raises(RequestFailed, match="no answer in time") as caught:
        asyncio.run(story())
    assert caught.value.billed
