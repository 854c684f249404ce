from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.files import ROOT
from tests.support.project import rows, write_rows

PROGRAM = ROOT / "benchmarks" / "train_throughput.py"


def contest(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, options)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )


def as_environment(folder: Path) -> Path:
    """This interpreter in the place of a peer's: it has transformers and PEFT, too."""
    python = folder / "trl" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / "trl" / "ready").touch()
    return folder


@pytest.mark.slow
def test_a_contest_leaves_a_table_and_everything_that_it_measured(
    tmp_path: Path, tiny_llama: Path
) -> None:
    work = (
        *("--model", tiny_llama),
        *("--rows", write_rows(tmp_path / "elements.jsonl", rows(range(40)))),
        *("--batch", 4, "--json", tmp_path / "kept.jsonl", "--folder", tmp_path / "work"),
    )
    peer = ("--peers", "trainer", "--environments", as_environment(tmp_path / "environments"))
    ended = contest(*work, *peer, "--nexa", "generic", "--steps", 3, "--pairs", 1)
    assert ended.returncode == 0, ended.stderr

    records = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    kinds = [(record["kind"], record.get("contestant")) for record in records]
    assert kinds == [
        ("check", "generic"),
        ("limit", None),
        ("run", "generic"),
        ("run", "trainer"),
        ("run", "reference"),
        ("limit", None),
    ]
    ours, theirs = records[2], records[3]
    assert ours["check_cached"]
    made = json.loads((tmp_path / "work" / "work.json").read_text())
    assert [step["tokens"] for step in theirs["steps"]] == made["tokens"][:3]
    # Equal rows in equal order; the peer learns one label a row more.
    for step, other in zip(ours["steps"], theirs["steps"], strict=True):
        assert step["loss"] == pytest.approx(other["loss"], abs=0.02)

    table = contest(*work, "--table")
    assert table.returncode == 0, table.stderr
    assert table.stdout.strip() == ended.stdout[ended.stdout.index("**Setup.**") :].strip()


def test_more_steps_than_the_rows_make_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    path = write_rows(tmp_path / "elements.jsonl", rows(range(20)))
    ended = contest("--model", tiny_llama, "--rows", path, "--steps", 2)
    assert ended.returncode == 1
    assert "1 whole steps of 16" in ended.stderr
