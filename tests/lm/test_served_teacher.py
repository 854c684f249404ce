"""A real OpenAI-compatible server on loopback as a teacher: `transformers serve`.

It wants the packages of transformers' extra `serving`, which Nexa does not: NEXA_TEST_SERVE names
a Python that has them, where this one has not. NEXA_TEST_MODEL names the folder of the model, else
it is SmolLM2 135M from its wheel.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.core.secrets import child_environment
from nexa.lm.client import Request
from nexa.lm.journal import read_journal
from nexa.lm.requests import Pace, ask_all
from nexa.lm.resolve import resolve
from nexa.lm.teachers import open_model
from tests.lm.asked import SCHEMA, request

NEEDED = ("fastapi", "uvicorn", "accelerate")
PYTHON = os.environ.get("NEXA_TEST_SERVE", sys.executable)
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING) and sys.executable == PYTHON,
        reason=f"transformers serve needs {', '.join(MISSING)}; or set NEXA_TEST_SERVE",
    ),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def served() -> Iterator[str]:
    """The name of a model that is being served, as `open_model` takes it."""
    named = os.environ.get("NEXA_TEST_MODEL")
    folder = Path(named) if named else resolve("smollm2-135m", source="wheel").folder
    port = free_port()
    command = [PYTHON, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(
        command,
        env=child_environment() | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            said = []
            for line in server.stdout:
                said.append(line)
                if "Uvicorn running" in line:
                    break
            else:
                pytest.fail("".join(said))
            yield f"{folder}@http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.communicate()


def test_a_served_model_answers_and_is_asked_once(served: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    asked = [request(f"What is {i} + {i}?", max_new_tokens=12, seed=1) for i in range(4)]
    held = request("A colour, as JSON.", max_new_tokens=12, json_schema=SCHEMA)
    requests: list[Request] = [*asked, held]
    model = open_model(served, project=tmp_path, environment={})
    heard: list[Event] = []
    with listening(heard.append):
        made = ask_all(model, requests, journal=journal, pace=Pace(concurrency=2))
        again = ask_all(model, requests, journal=journal, pace=Pace())
    completions = [one.completion for one in made]
    assert [one.problem for one in made] == [""] * 5
    for completion in completions:
        assert completion is not None
        assert completion.text
        assert completion.finish in ("stop", "length")
        assert 0 < completion.output_tokens <= 12 < completion.input_tokens
        assert "tokens" not in completion.extra  # the server told them
        assert completion.model.startswith(served.partition("@")[0])
    assert [one.completion for one in again] == completions
    assert all(one.cached for one in again)
    assert read_journal(journal).lost == 0
