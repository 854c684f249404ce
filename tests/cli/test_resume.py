from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.cli.main import main
from nexa.core.events import read_events
from nexa.core.manifest import list_manifests
from tests.support.project import Finished, write_project

ROOT = Path(__file__).parents[2]
SIGNALLED = """
import os, sys
from nexa.cli.main import main
from nexa.core.events import listening

def sink(event):
    if event["kind"] == "progress" and event["task"] == "training" and event["done"] == 3:
        os.kill(os.getpid(), int(sys.argv[1]))

with listening(sink):
    sys.exit(main(["train", "-q", sys.argv[2]]))
"""


def _default_signals() -> None:
    """As a process in a terminal has them, whatever the tests themselves were started by."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_its_code_and_the_way_on_and_resume_takes_it(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
) -> None:
    config = write_project(tmp_path / "elements", tiny_llama)
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number)), str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=_default_signals,
    )
    assert done.returncode == code, done.stderr
    told = done.stderr.splitlines()
    assert told[-3] == "stopped; what was finished is kept"
    assert told[-2] == "  found  step 3 of 4 was done, step 3 is kept"
    assert told[-1] == "  try    the same command, or nexa resume: it goes on from step 3"
    [stopped] = list_manifests(config.parent / "runs" / "manifests")
    assert stopped.status == "interrupted"
    assert (stopped.error or "").endswith("(step 3 of 4 was done, step 3 is kept)")
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["resume", "--allow-inexact"]) == 0
    out, err = capsys.readouterr()
    assert "Going on from step 3 of 4: " in err
    assert "Verdict: " in out
    [_, whole] = list_manifests(config.parent / "runs" / "manifests")
    log = read_events(config.parent / "runs" / "logs" / f"{whole.run_id}.jsonl")
    assert [event["step"] for event in log if event["kind"] == "train.resumed"] == [3]


def test_with_nothing_to_go_on_with_it_says_so(
    project: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"] == "there is nothing to go on with: no training was stopped"
    assert error["fix"] == "nexa train"
