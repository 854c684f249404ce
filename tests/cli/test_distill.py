"""`nexa distill` as it is typed, and as the lab's door has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.cli.main import main
from orchestrate import command_line
from tests.cli.asking import endpoint
from tests.support.project import write_project
from tests.support.scripted_endpoint import ScriptedEndpoint

__all__ = ["endpoint"]
Captured = pytest.CaptureFixture[str]


def test_a_student_is_distilled_by_the_lab_s_door(
    tmp_path: Path,
    tiny_llama: Path,
    endpoint: ScriptedEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    stage = ["--stage", "data_gen", "--dataset", "plasma_v1"]
    assert main(command_line(stage)) == 0
    assert capsys.readouterr().out.startswith("dataset/plasma_v1@v1\n")
    place = ["--base_url", endpoint.url, "--price", "1,2"]
    written = [*stage, "--teacher", "wise", "--rows", "2", *place]
    assert main(command_line(written)) == 0
    assert capsys.readouterr().out.startswith("dataset/plasma_v1@v2\n")
    words = ["--stage", "train", "--mode", "distill", "--teacher", "wise", *place]
    student = ["--student", str(tiny_llama)]
    assert main([*command_line([*words, *student]), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "min at most" in out
    assert "Nothing was sent, nothing was trained." in out
    assert main([*command_line([*words, *student]), "--max-new-tokens", "64"]) == 0
    out = capsys.readouterr().out
    assert "Verdict: " in out
    assert "Run " in out
