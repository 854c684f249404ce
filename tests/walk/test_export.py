"""A trained model leaves in other forms and comes back known; stopped once on its way out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from nexa.cli.main import main
from tests.support.project import rows, write_project, write_rows
from tests.support.tiny import write_tiny_model

SPEED = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
# Runs a command line and sends itself a signal when a file has been handed to the user.
STOPPED = """
import os, signal, sys
from nexa.cli.main import main
from nexa.core.events import listening

def kill(event):
    if event["kind"] == "saved" and event["path"].endswith(sys.argv[1]):
        os.kill(os.getpid(), int(sys.argv[2]))

with listening(kill):
    sys.exit(main(sys.argv[3:]))
"""


@dataclass
class Told:
    """What a command printed."""

    out: str
    err: str


@dataclass
class Walk:
    """A user's folder."""

    folder: Path

    def nexa(self, *words: str, code: int = 0) -> Told:
        """A command that ends with this code."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            ended = main(words)
        assert ended == code, out.getvalue() + err.getvalue()
        return Told(out.getvalue(), err.getvalue())

    def json(self, *words: str) -> Any:
        """What a command tells as JSON."""
        return json.loads(self.nexa(*words, "--json", "-q").out)

    def stopped(self, stop: signal.Signals, at: str, *words: str) -> int:
        """A process of its own that a signal meets as it hands out a file; its exit code."""
        environment = {**os.environ, **SPEED}
        return subprocess.run(
            [sys.executable, "-c", STOPPED, at, str(int(stop)), *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
        ).returncode


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A project that was trained once."""
    folder = tmp_path_factory.mktemp("export")
    write_tiny_model(folder / "tiny-llama")
    write_project(folder, "./tiny-llama")
    walk = Walk(folder)
    walk.nexa("train", "--no-check", "-q")
    return walk


def test_a_run_goes_out_as_gguf_and_as_safetensors(walk: Walk) -> None:
    gguf = walk.json("export", "latest", "--quantization", "q8_0", "--output", "gguf")
    single = walk.json("export", "latest", "--dtype", "float32", "--output", "single")
    [file] = [name for name in gguf["files"] if name.endswith(".gguf")]
    assert {file, "Modelfile", "parity.json", "README.md"} <= set(gguf["files"])
    assert (gguf["body"]["passed"], single["body"]["passed"]) == (True, True)
    nodes = walk.json("lineage", gguf["label"])
    assert [node["step"] for node in nodes][:3] == ["convert", "merge", "finetune"]
    assert {"train.jsonl", "eval.jsonl"} <= {node["label"] for node in nodes}
    for made in (gguf, single):
        walk.nexa("verify", made["label"])
        walk.nexa("verify", made["run_id"])
    walk.nexa("parity", f"gguf/{file}", "./output")
    assert walk.nexa("runs", "list").out.count("  export  done") == 2
    AutoModelForCausalLM.from_pretrained(walk.folder / "single", dtype=torch.float32)


def test_the_same_again_is_handed_out_and_nothing_is_made(walk: Walk) -> None:
    words = ("export", "latest", "--quantization", "q4_0", "--output", "again")
    walk.nexa(*words, "-q")
    before = {path: path.stat().st_mtime_ns for path in (walk.folder / "again").glob("*.gguf")}
    done = walk.nexa(*words)
    assert "made before" in done.out
    assert "reused export/" in done.err
    assert "Converting" not in done.err
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["kill", "^C"]
)
def test_what_was_stopped_half_way_is_whole_after_the_same_command(
    walk: Walk, stop: signal.Signals, code: int
) -> None:
    folder = walk.folder / f"stopped-{stop.name}"
    words = ["export", "latest", "--dtype", "float16", "--output", folder.name]
    assert walk.stopped(stop, "config.json", *words) == code
    assert not (folder / "model.safetensors").exists()
    refused = walk.nexa("export", folder.name, "--output", "nowhere", code=10)
    assert "is not whole" in refused.err
    walk.nexa(*words)
    told = json.loads((folder / "export.json").read_text())
    assert {path.name for path in folder.iterdir()} == {*told["files"], "export.json"}
    states = [run["status"] for run in walk.json("runs", "list") if run["run_type"] == "export"]
    assert states[-2:] == ["interrupted", "done"]


def test_two_merges_and_the_way_back(walk: Walk) -> None:
    write_rows(walk.folder / "more.jsonl", rows(range(200, 206)))
    walk.nexa("merge", "./output/adapter", "--output", "in-its-base")
    walk.nexa(
        *("merge", "latest", "./tiny-llama", "--method", "slerp", "--t", "0.5"),
        *("--output", "between"),
    )
    told = walk.json("lineage", "export/between")
    assert [node["role"] for node in told if node["depth"] == 1] == ["parent1", "parent2"]
    walk.nexa("verify", "export/between")
    beside = walk.json(
        *("eval", "export/between", "--parents", "--data", "more.jsonl"),
        *("--rows", "4", "--max-new-tokens", "4"),
    )
    assert len(beside) == 3


def test_wrong_words_end_with_the_code_of_their_kind(walk: Walk) -> None:
    for code, words in {
        2: ("export", "latest", "--quantization", "q9", "--output", "x"),
        5: ("export", "./nothing/here", "--output", "x"),
        11: ("export", "latest", "--output", "."),
    }.items():
        walk.nexa(*words, code=code)
    assert not (walk.folder / "x").exists()
