"""Generations in processes that a test may kill: one child for each line that comes in.

    python -m tests.faults.generating URL JOURNAL REQUESTS CONCURRENCY

It imports everything and uses nothing; then each line of input starts a forked child, which asks
the endpoint for all answers with one journal. Its process id is printed, and when it has ended a
JSON object with its `signal` (null: none) and, of one that came to its end, how many were
`answered` and how many of them `cached`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nexa.lm.client import Price, Request
from nexa.lm.openai_api import OpenAIChat  # imported before the first fork
from nexa.lm.requests import Pace, ask_all
from nexa.lm.teachers import open_model

assert OpenAIChat


def requests(count: int) -> list[Request]:
    """The same ones in every process."""
    return [
        Request(f"row-{i}", ({"role": "user", "content": f"question {i}"},), 32)
        for i in range(count)
    ]


def generate(url: str, journal: Path, count: int, concurrency: int) -> dict[str, int]:
    """Ask for all of them; budget and price are there, so that money is counted too."""
    model = open_model(f"m@{url}", project=Path(), price=Price(1.0, 2.0, "the test"))
    pace = Pace(concurrency=concurrency, first_wait_s=0.01, budget_usd=1.0)
    made = ask_all(model, requests(count), journal=journal, pace=pace)
    return {
        "answered": sum(one.completion is not None for one in made),
        "cached": sum(one.cached for one in made),
    }


def child(url: str, journal: Path, count: int, concurrency: int) -> dict[str, int | None]:
    """Generate in a child that may be killed; how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(generate(url, journal, count, concurrency)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    print(pid, flush=True)
    with os.fdopen(reading) as told:
        made = told.read()
    _, status = os.waitpid(pid, 0)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return {"signal": ended, **(json.loads(made) if made else {})}


if __name__ == "__main__":
    told_url, told_journal, told_count, told_concurrency = sys.argv[1:]
    for _ in sys.stdin:
        outcome = child(told_url, Path(told_journal), int(told_count), int(told_concurrency))
        print(json.dumps(outcome), flush=True)
