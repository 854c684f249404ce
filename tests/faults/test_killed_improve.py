"""`nexa improve` killed -9 at named moments: the same command goes on and ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.data import registry
from tests.architecture.files import ROOT
from tests.support.improving import WEAK, rows, teach, write_improvable
from tests.support.project import train, write_rows
from tests.support.scripted_endpoint import Script, ScriptedEndpoint

POINTS: list[dict[str, Any]] = [
    {"kind": "step.start", "step": "weakness"},
    {"kind": "step.end", "step": "select"},
    {"kind": "step.end", "step": "merge_data"},
    {"kind": "checkpoint.saved", "step": 40},
    {"kind": "checkpoint.saved", "step": 80},
    {"kind": "step.start", "step": "decide"},
    {"kind": "step.end", "step": "decide"},
    {"kind": "saved"},
    {"kind": "run.end", "status": "done"},
    {"kind": "improve.decision"},
]


def killed(folder: Path, words: Sequence[str], points: Sequence[Any]) -> list[list[int | None]]:
    """Run the command once a point, and let each process die there; how each of them ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_improve", str(folder), json.dumps(words)],
        input="".join(json.dumps(point) + "\n" for point in points),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def runs(folder: Path) -> list[RunManifest]:
    return list_manifests(Tiers.of(folder).manifests)


def book(folder: Path) -> dict[str, Any]:
    [path] = (folder / "runs" / "improve").glob("*.json")
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def contents(folder: Path, run: RunManifest) -> list[Any]:
    """What a round made, without the latencies that are part of answers."""
    store = Tiers.of(folder).store
    made = {role: store.by_digest(digest).body for role, digest in run.outputs.items()}
    scores = store.by_digest(run.outputs["tuned_scores"])
    return [
        made["dataset"].content_sha256,
        made["checkpoint"].weights_sha256,
        made["export"].model_digest,
        made["report"].comparisons,
        made["decision"].targets,
        scores.files["scores.jsonl"],
    ]


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    train(write_improvable(folder, tiny_llama, infra={"cost_per_hour_usd": 3.6}))
    return folder


def test_a_pass_that_is_killed_at_every_stage_ends_as_an_unbroken_one(project: Path) -> None:
    whole = Path(shutil.copytree(project, project.parent / "whole" / "words"))
    words = ["improve", "--rounds", "1", "--no-check", "--json"]
    assert killed(whole, words, [None]) == [[None, 0]]
    ended = killed(project, words, [*POINTS, None])
    assert ended[:-1] == [[signal.SIGKILL, None]] * len(POINTS)
    assert ended[-1] == [None, 0]

    [unbroken], [goes_on] = book(whole)["passes"], book(project)["passes"]
    assert len(goes_on["rounds"]) == len(unbroken["rounds"]) == 1
    assert goes_on["rounds"][0]["accepted"]
    assert goes_on["ended"] == unbroken["ended"]
    last = next(r for r in runs(project) if r.run_id == goes_on["rounds"][0]["run_id"])
    once = next(r for r in runs(whole) if r.run_id == unbroken["rounds"][0]["run_id"])
    assert contents(project, last) == contents(whole, once)
    told = json.loads((project / "output" / "final_model.json").read_text())
    assert told["records"]["checkpoint"] == last.outputs["checkpoint"]
    states = [run.status for run in runs(project)]
    assert "running" not in states
    [versions] = registry.read(project / "dataset_registry.yaml").values()
    assert [entry.get("state") for entry in versions.values()] == [None, "accepted"]


def test_a_round_that_is_rolled_back_after_a_kill_leaves_the_output_alone(project: Path) -> None:
    write_rows(project / "pool.jsonl", rows(WEAK, range(200, 240), {WEAK: "heavy"}))
    before = (project / "output" / "final_model.json").read_bytes()
    words = ["improve", "--rounds", "1", "--no-check"]
    points = [{"kind": "step.end", "step": "decide"}, {"kind": "run.end", "status": "done"}, None]
    ended = killed(project, words, points)
    assert [code for _, code in ended] == [None, None, 0]
    assert (project / "output" / "final_model.json").read_bytes() == before
    [versions] = registry.read(project / "dataset_registry.yaml").values()
    assert [entry.get("state") for entry in versions.values()] == [None, "rolled back"]
    [one] = book(project)["passes"]
    assert [done["accepted"] for done in one["rounds"]] == [False]


def test_a_teacher_is_paid_once_and_the_killed_attempts_count(project: Path) -> None:
    # A few rows of the weak domain are what the teacher is shown.
    known = [json.loads(line) for line in (project / "train.jsonl").read_text().splitlines()]
    write_rows(project / "train.jsonl", [*known, *rows(WEAK, range(3))])
    with ScriptedEndpoint(Script(function=teach)) as served:
        words = [
            *("improve", "--rounds", "1", "--no-check", "--generator", "teacher", "--rows", "12"),
            *("--teacher", "wise", "--base-url", served.url, "--price", "1,2"),
            *("--budget-usd", "1000", "--json"),
        ]
        points = [
            {"kind": "step.end", "step": "propose"},
            {"kind": "step.end", "step": "prepare_synthetic"},
            {"kind": "step.start", "step": "decide"},
            None,
        ]
        ended = killed(project, words, points)
        billed = [entry["key"] for entry in served.billed]
    assert [code for _, code in ended] == [None, None, None, 0]
    assert len(billed) == len(set(billed)) > 12
    [one] = book(project)["passes"]
    assert len(one["rounds"]) == 1
    assert list(one["journals"].values()) == [0.0]
    improving = [run for run in runs(project) if run.run_type == "improve"]
    assert [run.status for run in improving] == ["interrupted"] * 3 + ["done"]
    decision = Tiers.of(project).store.by_digest(one["rounds"][0]["decision"])
    # More than the last run's: what three killed ones took is in it, and the first model's.
    assert improving[-1].cost is not None
    assert decision.body.spent_usd > improving[-1].cost.cost_total_usd
