"""The root's orchestrate.py: the lab's stages as nexa's commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nexa.cli.main import main
from orchestrate import command_line
from tests.architecture.files import ROOT
from tests.support.project import Finished, write_project


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--stage", "data_gen"], ["data", "prepare", "config.yaml"]),
        (
            ["--stage", "data_gen", "--dataset", "plasma_v1"],
            ["data", "prepare", "config.yaml", "--dataset", "plasma_v1"],
        ),
        (
            [
                *("--stage", "data_gen", "--dataset", "plasma_v1", "--teacher", "gpt-4o"),
                *("--method", "paraphrase", "--rows", "9", "--budget_usd", "2"),
            ],
            [
                *("data", "augment", "plasma_v1", "--method", "paraphrase", "--rows", "9"),
                *("--teacher", "gpt-4o", "--budget-usd", "2", "--config", "config.yaml"),
            ],
        ),
        (
            [
                *("--stage", "train", "--mode", "distill"),
                *("--teacher", "gpt-4o", "--student", "mistral-7b"),
            ],
            ["distill", "--student", "mistral-7b", "--teacher", "gpt-4o"],
        ),
        (["--stage", "train", "--config", "b.yaml"], ["train", "b.yaml"]),
        (["--stage", "train", "--mode", "sft"], ["train", "config.yaml"]),
        (["--stage", "eval"], ["eval", "latest"]),
        (["--stage", "eval", "--run_id", "2026-01-01"], ["eval", "2026-01-01"]),
        (["--stage", "eval", "--run_id", "2025-10-28_141200"], ["eval", "2025-10-28_141200"]),
        (["--stage", "feedback"], ["feedback", "latest"]),
        (
            [
                *("--stage", "feedback", "--run_id", "2026-01-01", "--generator", "teacher"),
                *("--teacher", "gpt-4o", "--rows", "9", "--budget_usd", "2", "--pool", "p.jsonl"),
            ],
            [
                *("feedback", "2026-01-01", "--generator", "teacher", "--pool", "p.jsonl"),
                *("--rows", "9", "--teacher", "gpt-4o", "--budget-usd", "2"),
            ],
        ),
        (["--stage", "publish"], ["publish", "./output"]),
        (
            ["--stage", "publish", "--repo", "a/b", "--hub", "local", "--model_dir", "m"],
            ["publish", "m", "--repo", "a/b", "--hub", "local"],
        ),
    ],
)
def test_a_stage_is_a_command(argv: list[str], words: list[str]) -> None:
    assert command_line(argv) == words


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--stage", "improve"],
        ["--stage", "train", "--mode", "x"],
        ["--stage", "train", "--mode", "distill"],
        ["--stage", "data_gen", "--teacher", "gpt-4o"],
    ],
)
def test_an_unknown_stage_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command_line(argv)
    assert refused.value.code == 2
    assert "usage: orchestrate.py" in capsys.readouterr().err


def test_the_stages_are_the_three_commands(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    for stage in ("data_gen", "train", "eval"):
        assert main(command_line(["--stage", stage])) == 0, capsys.readouterr().err
    words = ["--stage", "publish", "--repo", "you/it", "--hub", "local"]
    assert main(command_line(words)) == 0
    assert "Published: " in capsys.readouterr().out


def test_it_runs_as_a_script_and_ends_with_the_command_s_code(project: Finished) -> None:
    words = [
        sys.executable,
        str(ROOT / "orchestrate.py"),
        "--stage",
        "publish",
        "--model_dir",
        "none",
        "--repo",
        "you/it",
        "--hub",
        "local",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=project.root)
    assert done.returncode == 2
    assert "no folder none to publish" in done.stderr
    told = json.loads((project.root / "output" / "final_model.json").read_text())
    assert told["run_id"] == project.manifest.run_id
