"""A generation that is killed again and again pays for no answer twice and ends as an unbroken one.

The teacher is a real endpoint on loopback, which notes what it bills; the killed processes are
real ones. Moments within a request are the endpoint's: arrived, billed, half sent.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nexa.core.lineage import verify
from nexa.core.manifest import list_manifests
from nexa.core.store_check import StoreCheck
from nexa.data.registry import read
from nexa.orchestrate.augment import Wanted, augment_data
from nexa.orchestrate.teaching import Choice
from tests.support.project import Finished
from tests.support.scripted_endpoint import Script, ScriptedEndpoint, billed_in
from tests.support.teacher import teach

ROOT = Path(__file__).parents[2]
ROWS = 12
ELSEWHERE: tuple[dict[str, Any], ...] = (
    {"kind": "step.start", "step": "augment"},
    {"kind": "step.end", "step": "augment"},
    {"kind": "step.start", "step": "prepare_synthetic"},
    {"kind": "step.end", "step": "merge_data"},
)


class Commands:
    """One command, run as often as it is asked for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, point: dict[str, Any] | None = None) -> int:
        """Start it; returns its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(point) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self) -> tuple[int | None, int | None]:
        """Wait for it: the signal it ended by, its exit code."""
        number, code = json.loads(self._line())
        return number, code

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read() if self._process.stderr else ""
        return line


@contextmanager
def commands(words: Sequence[str], folder: Path) -> Iterator[Commands]:
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.killed_augment", json.dumps(list(words))],
        cwd=folder,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield Commands(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def words_for(endpoint: ScriptedEndpoint) -> list[str]:
    return [
        *("data", "augment", "elements", "--teacher", "wise", "--base-url", endpoint.url),
        *("--rows", str(ROWS), "--price", "1,2", "--concurrency", "3", "-q", "--json"),
    ]


def test_ten_kills_cost_nothing_twice_and_leave_the_rows_of_an_unbroken_job(
    finished: Finished, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "killed" / "elements")
    ledger = tmp_path / "billed.jsonl"
    draw = random.Random(20261122)
    with (
        ScriptedEndpoint(Script(function=teach), ledger=ledger) as endpoint,
        commands(words_for(endpoint), project.root) as command,
    ):
        assert killed_at(command, ELSEWHERE[0]) == signal.SIGKILL
        for _ in range(6):
            moment = endpoint.stop_at(
                draw.randint(1, 2), draw.choice(["arrived", "billed", "half"])
            )
            pid = command.begin()
            moment.wait()
            os.kill(pid, signal.SIGKILL)
            moment.go.set()
            assert command.end() == (signal.SIGKILL, None)
        for point in ELSEWHERE[1:]:
            assert killed_at(command, point) == signal.SIGKILL
        command.begin()
        assert command.end() == (None, 0)
    keys = Counter(entry["key"] for entry in billed_in(ledger))
    assert len(keys) == ROWS
    assert set(keys.values()) == {1}
    assert_whole(project)
    with ScriptedEndpoint(Script(function=teach)) as endpoint:
        unbroken = finished.copy(tmp_path / "unbroken" / "elements")
        choice = Choice("wise", base_url=endpoint.url)
        augment_data("elements", Wanted("self_instruct", ROWS), choice, unbroken.config)
    for kind, name in (("synthetic", "elements-self_instruct"), ("dataset", "elements")):
        mine, theirs = (p.tiers.store.get(kind, name) for p in (project, unbroken))
        for file in ("rows.jsonl", "train.parquet"):
            assert mine.files.get(file) == theirs.files.get(file)


def killed_at(command: Commands, point: dict[str, Any]) -> int | None:
    """The command with an event that is its last."""
    command.begin(point)
    return command.end()[0]


def assert_whole(project: Finished) -> None:
    """Every version is whole, the registry names it, every killed run is told so."""
    store = project.tiers.store
    assert store.versions("dataset", "elements") == ["v1", "v2"]
    newest = store.get("dataset", "elements")
    assert verify(newest, store) == []
    assert list(StoreCheck(store).everything()) == []
    entry = read(project.root / "dataset_registry.yaml")["elements"]["v2"]
    assert entry["digest"] == newest.digest
    runs = list_manifests(project.tiers.manifests)
    assert [run.status for run in runs[1:]] == ["interrupted"] * 10 + ["done"]
    assert list(project.tiers.scratch.iterdir()) == []


def test_ctrl_c_keeps_what_was_answered_and_the_same_command_goes_on(
    finished: Finished, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "elements")
    with (
        ScriptedEndpoint(Script(function=teach)) as endpoint,
        commands(words_for(endpoint), project.root) as command,
    ):
        moment = endpoint.stop_at(5)
        pid = command.begin()
        moment.wait()
        os.kill(pid, signal.SIGINT)
        moment.go.set()
        assert command.end() == (None, 130)
        paid = len(endpoint.billed)
        assert 0 < paid < ROWS
        stopped = list_manifests(project.tiers.manifests)[-1]
        assert stopped.status == "interrupted"
        assert "answers of this run are kept" in (stopped.error or "")
        assert (stopped.teacher_model, stopped.cost_estimate_usd_total > 0) == ("wise", True)
        command.begin()
        assert command.end() == (None, 0)
        assert len({entry["key"] for entry in endpoint.billed}) == len(endpoint.billed) == ROWS
    made = project.tiers.store.get("synthetic", "elements-self_instruct")
    assert (made.body.rows, made.body.cached) == (ROWS, paid)
