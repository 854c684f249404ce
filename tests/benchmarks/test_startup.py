from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.files import ROOT
from tests.support.project import rows, write_rows


@pytest.mark.slow
def test_the_first_step_is_timed_in_three_states_of_a_project(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = write_rows(tmp_path / "elements.jsonl", rows(range(40)))
    ended = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "startup.py")),
            *("--model", str(tiny_llama), "--rows", str(path), "--runs", "1"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = [line.partition(")  ")[2] for line in ended.stdout.splitlines()[:3]]
    assert told == [
        "a new project: data are prepared, the check is made",
        "second run, the check is made",
        "second run, the check is kept",
    ]
