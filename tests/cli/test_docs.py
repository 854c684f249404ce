from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexa.cli import docs
from nexa.cli.docs import command_reference, contexts, main
from nexa.core import errors


def test_every_command_has_its_help_in_the_reference() -> None:
    text = command_reference()
    for context in contexts():
        assert f"# {context.command_path}\n" in text
        assert f"Usage: {context.command_path} " in text


def test_members_of_a_group_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cli.sample import group

    monkeypatch.setattr(docs, "app", group)
    assert [context.command_path for context in contexts()] == ["nexa", "nexa finish"]


def test_every_exit_code_is_in_the_reference() -> None:
    text = command_reference()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and "exit_code" in vars(kind):
            assert f"| {kind.exit_code} | `{name}` |" in text
    assert "| 130 | | stopped by Ctrl-C |" in text


def test_documents_are_written_once_and_stale_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path)]
    assert main([*root, "--check"]) == 1
    assert "docs/cli.md is stale\n  try    make docs" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()
    assert main(root) == 0
    assert capsys.readouterr().out == "".join(f"wrote {name}\n" for name in docs.DOCUMENTS)
    assert main([*root, "--check"]) == 0
    assert main(root) == 0
    assert capsys.readouterr().out == ""


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nexa.cli.docs", "--check", "--root", str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == 1
