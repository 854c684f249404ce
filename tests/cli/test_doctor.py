"""`nexa doctor` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main

TOKEN = "hf_" + "secret" * 5


def test_what_is_here_is_a_table_without_a_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "from the environment (HF_TOKEN)" in out
    assert TOKEN not in out
    assert out.endswith("Nothing is broken.\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_is_told_with_its_way_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXA_DURABLE", "nowhere://bucket")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "\nstorage, durable: nowhere://bucket: " in out
    assert "  try    install what it names, or set NEXA_DURABLE to a folder\n" in out
    assert out.endswith("1 broken\n")
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["broken"] == 1
