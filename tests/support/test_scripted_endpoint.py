from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint, billed_in


def post(
    url: str, prompt: str, path: str = "/v1/chat/completions", key: str = "", **more: Any
) -> tuple[int, Any]:
    """One request; its status and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 50}
    headers = {"Idempotency-Key": key} if key else {}
    try:
        connection.request("POST", path, json.dumps(body | more), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def shouted(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"].upper()


def test_a_process_serves_a_script_and_its_ledger_outlives_it(tmp_path: Path) -> None:
    script, ledger = tmp_path / "script.json", tmp_path / "ledger.jsonl"
    rules = [{"when": "^add (.*)", "answer": r"sum of \g<1>"}]
    faults = [{"do": "status", "status": 500, "attempts": [1], "when": "add"}]
    script.write_text(json.dumps({"answers": rules, "faults": faults}))
    words = ["--script", str(script), "--ledger", str(ledger), "--port", "0"]
    for expected in ([500, 200], [500, 200]):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.scripted_endpoint", *words],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            got = [post(url, "add 1 and 2", key="k") for _ in range(2)]
            process.kill()
        assert [status for status, _ in got] == expected
        assert got[1][1]["choices"][0]["message"]["content"] == "sum of 1 and 2"
    assert [entry["key"] for entry in billed_in(ledger)] == ["k"]


def test_both_apis_answer_and_count_tokens() -> None:
    with ScriptedEndpoint(Script(function=shouted)) as endpoint:
        _, openai = post(endpoint.url, "abcdefgh")
        _, anthropic = post(endpoint.url, "abcdefgh", "/v1/messages")
        _, cut = post(endpoint.url, "abcdefgh", max_tokens=1)
    assert openai["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert anthropic["content"] == [{"type": "text", "text": "ABCDEFGH"}]
    assert anthropic["usage"] == {"input_tokens": 2, "output_tokens": 2}
    choice = cut["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("ABCD", "length")


def test_a_function_may_be_named_and_shares_are_drawn_by_the_seed() -> None:
    struck = []
    for seed in (1, 1, 2):
        faults = [Fault("status", share=0.5)]
        named = f"{__name__}:shouted"
        with ScriptedEndpoint(Script(function=named, faults=faults, seed=seed)) as endpoint:
            struck.append([post(endpoint.url, f"q{i}")[0] for i in range(20)])
    assert struck[0] == struck[1] != struck[2]
    assert set(struck[0]) == {200, 500}


def test_a_field_that_no_script_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('{"answer": []}')
    with pytest.raises(ValueError, match="answer"):
        Script.read(tmp_path / "script.json")


def test_a_client_that_dies_while_it_sends_is_billed_nothing() -> None:
    with ScriptedEndpoint() as endpoint:
        connection = http.client.HTTPConnection(urlsplit(endpoint.url).netloc)
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b'{"messages": [')
        connection.close()
        assert post(endpoint.url, "alive")[0] == 200
        assert len(endpoint.billed) == len(endpoint.received) == 1
