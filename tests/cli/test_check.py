"""`nexa check` as a user sees it: a table, what is wrong in three lines each, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main
from nexa.core.events import read_events
from tests.support.project import rows, write_project, write_rows


def test_a_clean_project_is_ready(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--no-rehearsal"]) == 0
    out = capsys.readouterr().out
    assert "weights     passed   20 tensors, all finite" in out
    assert "merge       skipped  not rehearsed" in out
    assert "Ready: nexa train (" in out
    assert main(["check", "--no-rehearsal"]) == 0
    assert "kept from an earlier check" in capsys.readouterr().out


def test_every_finding_is_told_with_its_way_out(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_project(tmp_path, tiny_llama, lora={"target_modules": ["q_prj"]})
    write_rows(tmp_path / "train.jsonl", rows(range(90, 110)))
    assert main(["check", str(config), "--no-rehearsal"]) == 16
    out = capsys.readouterr().out
    assert "\nleakage: 10 of 10 held-out rows are given away" in out
    assert "  found  eval.jsonl:1 is same prompt" in out
    assert "         eval.jsonl:2 is same prompt" in out
    assert "  try    take these rows out" in out
    assert "\ntrainable: nothing would be trained" in out
    assert "2 findings; exit code 16" in out


def test_with_json_the_findings_are_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none.yaml"), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["error_class"] == "ConfigError"
    assert main(["check", str(tmp_path / "none.yaml")]) == 3
    assert "1 finding; exit code 3" in capsys.readouterr().out


def test_training_begins_with_the_check_and_its_log_says_so(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_project(tmp_path, tiny_llama)
    monkeypatch.chdir(tmp_path)
    for words in (["train"], ["train"], ["train", "--no-check"]):
        assert main([*words, "-q"]) == 0, capsys.readouterr().err
    logs = sorted((tmp_path / "runs" / "logs").iterdir())
    events = [event for log in logs for event in read_events(log)]
    made = [(e["made"], e["cached"]) for e in events if e["kind"] == "flight.check"]
    assert made == [(True, False), (True, True), (False, False)]
    # The dataset that the check prepared is the one that was trained on.
    reused = [event["label"] for event in events if event["kind"] == "step.reused"]
    assert any(label.startswith("dataset/") for label in reused[:3])
