from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.files import ROOT

PROGRAM = ROOT / "benchmarks" / "merge.py"


def in_the_place_of_mergekit(folder: Path) -> Path:
    """An environment in which mergekit's command is Nexa's."""
    command = folder / "mergekit" / "bin" / "mergekit-yaml"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nexa merge "$1" --output "$2"\n')
    command.chmod(0o755)
    (folder / "mergekit" / "ready").touch()
    return folder


def benchmark(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, options)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_tools_merge_in_turn_and_their_results_are_compared(
    tmp_path: Path, tiny_llama: Path
) -> None:
    ended = benchmark(
        *("--model", tiny_llama, "--environments", in_the_place_of_mergekit(tmp_path / "made")),
        *("--methods", "slerp,ties", "--pairs", 1, "--json", tmp_path / "kept.jsonl"),
        *("--scratch", tmp_path),
    )
    assert ended.returncode == 0, ended.stderr

    records = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    kinds = [(record["kind"], record["method"]) for record in records]
    assert kinds == [
        *(("pair", "slerp"), ("difference", "slerp")),
        *(("pair", "ties"), ("difference", "ties")),
    ]
    for pair in records[::2]:
        for tool in ("nexa", "mergekit"):
            assert pair[tool]["wall_s"] > 0
            assert pair[tool]["anonymous_bytes"] > 10e6
    for difference in records[1::2]:
        assert (difference["largest"], difference["only_one"]) == (0.0, [])
        assert difference["tensors"] > 10
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("| ties | ")
    assert last.endswith("| 0.0e+00 |")


def test_one_fine_tune_or_an_unknown_method_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    work = ("--model", tiny_llama, "--environments", tmp_path)
    assert "give --tuned twice" in benchmark(*work, "--tuned", tiny_llama).stderr
    assert "no such method: fusion" in benchmark(*work, "--methods", "fusion,ties").stderr
