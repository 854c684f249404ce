from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from nexa.session.app import MAX_REQUEST_BYTES, MAX_TTL_S, create_app
from nexa.session.vault import Vault

TOKEN = "hf_" + "AppAp" * 7
STOPPED: list[str] = []


@pytest.fixture
def client() -> FlaskClient:
    STOPPED.clear()
    return create_app(Vault(), lambda: STOPPED.append("stopped")).test_client()


def put(client: FlaskClient, **changes: Any) -> tuple[int, Any]:
    answer = client.put("/token", json={"token": TOKEN, "ttl_s": 60, "name": "ada", **changes})
    return answer.status_code, answer.get_json()


def test_a_token_that_was_put_in_is_given_out_and_told_of_without_its_value(
    client: FlaskClient,
) -> None:
    assert client.get("/token").get_json() == {"token": None}
    assert put(client, masked="hf_Ap...pAp", role="write", other="unknown") == (200, {"kept": True})
    assert client.get("/token").get_json() == {"token": TOKEN}
    told = client.get("/status")
    assert TOKEN not in told.text
    state = told.get_json()
    assert {k: state[k] for k in ("has_token", "masked", "name", "role")} == {
        "has_token": True,
        "masked": "hf_Ap...pAp",
        "name": "ada",
        "role": "write",
    }
    assert "other" not in state


def test_clear_forgets_the_token_and_stop_ends_the_server_too(client: FlaskClient) -> None:
    put(client)
    assert client.delete("/token").get_json() == {"cleared": True}
    assert client.delete("/token").get_json() == {"cleared": False}
    assert STOPPED == []
    put(client)
    assert client.post("/stop", buffered=True).get_json() == {"cleared": True}
    assert STOPPED == ["stopped"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": ""}, "no token"),
        ({"token": None}, "no token"),
        ({"token": 7}, "no token"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": -1}, "ttl_s"),
        ({"ttl_s": "60"}, "ttl_s"),
        ({"ttl_s": MAX_TTL_S + 1}, "ttl_s"),
        ({"ttl_s": float("nan")}, "ttl_s"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_keeps_nothing(
    client: FlaskClient, changes: dict[str, Any], said: str
) -> None:
    status, answer = put(client, **changes)
    assert status == 400
    assert said in answer["error"]
    assert client.get("/token").get_json() == {"token": None}


def test_what_is_no_request_of_the_session_is_refused_as_json(client: FlaskClient) -> None:
    answers = [
        client.put("/token", json=["a list"]),
        client.put("/token", data="{", content_type="application/json"),
        client.put("/token", data="no json"),
        client.get("/get_token"),
        client.post("/token"),
        client.put("/token", json={"token": "x" * MAX_REQUEST_BYTES}),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 415, 404, 405, 413]
    assert all(answer.get_json()["error"] for answer in answers)
