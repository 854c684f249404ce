"""Requests whose process is killed -9 at ten moments: all is answered, nothing is paid twice.

The endpoint stops in a request that is drawn by a seed: when it has arrived, when it has been
billed, or when half of its answer is sent; the process that asks is killed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexa.lm.journal import Journal, read_journal
from tests.faults.generating import requests
from tests.support.scripted_endpoint import Fault, Script, ScriptedEndpoint, billed_in

REQUESTS = 150
CONCURRENCY = 4
KILLS = 10
SLOW_S = 120
MOMENTS = ("arrived", "billed", "half")


class Generating:
    """The process that forks one generation after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self) -> int:
        """Begin one; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._line())

    def ended(self) -> dict[str, Any]:
        """How it ended."""
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextlib.contextmanager
def generating(url: str, journal: Path) -> Iterator[Generating]:
    words = [url, str(journal), str(REQUESTS), str(CONCURRENCY)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.generating", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Generating(process)


def kill_and_finish(endpoint: ScriptedEndpoint, journal: Path, seed: int) -> dict[str, Any]:
    """Kill ten generations at drawn moments and let the eleventh come to its end."""
    drawn = random.Random(seed)
    with generating(endpoint.url, journal) as runs:
        for _ in range(KILLS):
            nth = drawn.randint(1, REQUESTS // KILLS - 2)  # so that there are enough for all
            moment = endpoint.stop_at(nth, drawn.choice(MOMENTS))
            pid = runs.start()
            moment.wait(SLOW_S)
            os.kill(pid, signal.SIGKILL)
            moment.go.set()
            assert runs.ended() == {"signal": signal.SIGKILL}
            assert len(read_journal(journal).answers) <= len(endpoint.billed)
        runs.start()
        return runs.ended()


def check_answers(journal: Path) -> None:
    """The journal can be written to, and each request has the answer to it and no other."""
    with Journal.open(journal) as opened:
        entries = opened.entries
    texts = sorted(line["text"] for line in entries.answers.values())
    assert texts == sorted(f"answer to: {r.messages[-1]['content']}" for r in requests(REQUESTS))


@pytest.mark.parametrize("seed", [1, 2])
def test_requests_killed_anywhere_are_all_answered_and_none_is_paid_twice(
    tmp_path: Path, seed: int
) -> None:
    ledger, journal = tmp_path / "ledger.jsonl", tmp_path / "journal.jsonl"
    faults = [
        Fault("status", status=429, headers={"retry-after-ms": "20"}, share=0.1, attempts=(1,)),
        Fault("drop-body", share=0.1, attempts=(1, 2)),
        Fault("malformed", share=0.05, attempts=(1, 2)),
    ]
    with ScriptedEndpoint(Script(faults=faults, seed=seed), ledger=ledger) as endpoint:
        ended = kill_and_finish(endpoint, journal, seed)
    assert (ended["signal"], ended["answered"]) == (None, REQUESTS)
    assert ended["cached"] > 0
    billed = [entry["key"] for entry in billed_in(ledger)]
    assert len(billed) == len(set(billed)) == REQUESTS
    assert set(read_journal(journal).answers) == set(billed)
    check_answers(journal)


def test_without_idempotency_keys_no_more_is_paid_twice_than_the_journal_says(
    tmp_path: Path,
) -> None:
    ledger, journal = tmp_path / "ledger.jsonl", tmp_path / "journal.jsonl"
    with ScriptedEndpoint(Script(idempotency=False), ledger=ledger) as endpoint:
        ended = kill_and_finish(endpoint, journal, 3)
    assert (ended["signal"], ended["answered"]) == (None, REQUESTS)
    entries = read_journal(journal)
    twice = len(billed_in(ledger)) - REQUESTS
    assert 0 < twice <= entries.lost <= KILLS * CONCURRENCY
    check_answers(journal)
