from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.files import ROOT
from tests.support.tiny import tiny_model, tiny_tokenizer

PROGRAM = ROOT / "benchmarks" / "improve.py"


@pytest.mark.slow
def test_every_part_is_played_on_a_tiny_model(tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    tiny = tiny_model()
    tiny.config.max_position_embeddings = 2048  # notes are long in bytes
    tiny.save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    ended = subprocess.run(
        [
            *(sys.executable, str(PROGRAM), "--model", str(model), "--steps", "2"),
            *("--new-tokens", "4", "--json", str(tmp_path / "kept.json")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    # A model that learns nothing in two steps is not improved by its pool: that part says so.
    assert ended.returncode == 1, ended.stderr
    results = {one["part"]: one for one in json.loads((tmp_path / "kept.json").read_text())}
    assert list(results) == ["pool", "poison", "echo", "budget", "teacher"]
    good = {name: one["as_it_must"] for name, one in results.items()}
    assert good == {"pool": False, "poison": True, "echo": True, "budget": True, "teacher": True}
    assert "no evidence" in results["pool"]["told"]["rounds"][0]["reason"]
    assert results["pool"]["control_s"] > 0
    taught = results["teacher"]["told"]["rounds"][0]
    assert taught["added"] > 0
    assert "pool     NOT AS IT MUST" in ended.stdout
