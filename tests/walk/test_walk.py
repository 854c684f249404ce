"""One row from a line of a file to a published, verified model, and back: by the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nexa.core.identity import sha256_bytes, sha256_file
from tests.architecture.files import ROOT
from tests.support.project import rows, write_rows
from tests.support.tiny import write_tiny_model

SPEED = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def run(folder: Path, *words: str) -> str:
    """What a process of its own prints; it ends well."""
    environment = {**os.environ, **SPEED, "NEXA_CACHE": str(folder / "cache")}
    for name in ("NEXA_SCRATCH", "NEXA_DURABLE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Walk:
    """A user's folder, and what each command printed there."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def nexa(self, *words: str) -> str:
        """Run a command."""
        told = run(self.folder, "-m", "nexa", *words)
        return self.printed.setdefault(words[0], told)

    @property
    def published(self) -> Path:
        """The folder that `nexa publish` named."""
        return Path(re.findall(r"Published: (.*)", self.printed["publish"])[0])


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The three commands on a folder of rows."""
    folder = tmp_path_factory.mktemp("walk")
    write_tiny_model(folder / "tiny-llama")
    write_rows(folder / "data" / "train.jsonl", rows(range(40)))
    write_rows(folder / "data" / "eval.jsonl", rows(range(100, 110)))
    walk = Walk(folder)
    walk.nexa("init", "--base", "./tiny-llama", "--method", "lora", "--data", "./data")
    walk.nexa("train")
    walk.nexa("publish", "--repo", "you/walked", "--hub", "local")
    return walk


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_becomes_a_row_that_is_trained_on_and_knows_its_line(walk: Walk) -> None:
    source = lines(walk.folder / "data" / "train.jsonl")[7]
    folder = walk.folder / ".nexa" / "durable" / "datasets" / "data" / "v1"
    table = pq.read_table(folder / "train.parquet").to_pylist()
    [row] = [row for row in table if row["origin"] == "train.jsonl:8"]
    asked, answer = row["messages"]
    assert asked["content"] == f"{source['context']}\n\n{source['prompt']}"
    assert json.loads(answer["content"]) == source["target_answer"]
    assert (row["group"], row["domain"]) == (source["group"], source["domain"])
    [told] = [told for told in lines(folder / "lineage.jsonl") if told["row_id"] == row["row_id"]]
    assert told["origin"] == "train.jsonl:8"
    line = (walk.folder / "data" / "train.jsonl").read_bytes().split(b"\n")[7]
    assert told["sha256"] == sha256_bytes(line)


def test_a_held_out_line_is_asked_answered_scored_and_shipped(walk: Walk) -> None:
    source = lines(walk.folder / "data" / "eval.jsonl")[3]
    shipped = walk.published / "nexa"
    [prompt] = [
        row
        for row in lines(shipped / "prompts.jsonl")
        if row["messages"][0]["content"].startswith(source["context"])
    ]
    assert json.loads(prompt["target"]) == source["target_answer"]
    for side in ("base", "tuned"):
        for kind in ("answers", "scores"):
            found = [row["id"] for row in lines(shipped / f"{kind}_{side}.jsonl")]
            assert found.count(prompt["id"]) == 1


def test_the_published_folder_verifies_by_itself_and_after_a_move(
    walk: Walk, tmp_path: Path
) -> None:
    root = re.findall(r"root digest (\w{64})", walk.printed["publish"])[0]
    moved = tmp_path / "moved"
    walk.published.rename(moved)
    try:
        told = run(tmp_path, "-m", "nexa", "verify", "moved", "--expect", root)
        assert "nothing was changed since it was made" in told
    finally:
        moved.rename(walk.published)


def test_the_way_back_leads_to_the_bytes_of_the_files(walk: Walk) -> None:
    nodes = json.loads(walk.nexa("lineage", "publication/you-walked", "--json"))
    assert nodes[0]["label"] == "publication/you-walked@v1"
    sources = {node["label"]: node["digest"] for node in nodes if node["role"] == "source"}
    assert sources == {
        name: sha256_file(walk.folder / "data" / name) for name in ("train.jsonl", "eval.jsonl")
    }
    report = next(node for node in nodes if node["label"].startswith("report/"))
    manifest = json.loads((walk.published / "nexa" / "manifest.json").read_text())
    assert manifest["outputs"]["report"] == report["digest"]
    assert str(walk.folder) not in json.dumps(manifest)


def test_the_page_of_python_walks_the_same_way(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny-llama")
    write_rows(tmp_path / "rows.jsonl", rows(range(60)))
    told = run(tmp_path, str(ROOT / "examples" / "walk.py"), "rows.jsonl", "./tiny-llama")
    *_, verdict, folder = told.splitlines()
    assert verdict.startswith("verdict: ")
    assert Path(folder) == tmp_path / ".nexa" / "hub" / "you" / "walked"
    assert (Path(folder) / "nexa" / "ROOT").exists()
