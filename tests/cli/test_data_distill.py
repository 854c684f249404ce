"""`nexa data distill` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.cli.main import main
from tests.cli.asking import asking, endpoint
from tests.support.project import Finished
from tests.support.scripted_endpoint import ScriptedEndpoint

__all__ = ["endpoint"]
Captured = pytest.CaptureFixture[str]


def test_prompts_become_a_dataset_of_answers(
    project: Finished, endpoint: ScriptedEndpoint, capsys: Captured
) -> None:
    words = ["data", "distill", "elements", "--dataset", "mine", "-o", "rows.jsonl"]
    assert main([*words, *asking(endpoint)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("dataset/mine@v1\n")
    assert "split train" in out
    assert len(Path("rows.jsonl").read_text().splitlines()) == 40
    assert main(["data", "distill", "elements", *asking(endpoint, "--json", "-q")]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "dataset/elements-wise@v1"
    assert main(["data", "distill", "suite/elements", *asking(endpoint)]) == 16
