"""A merge that is killed, interrupted or has no room leaves nothing torn, and a rerun completes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import Event, listening
from nexa.core.lineage import verify
from nexa.core.manifest import list_manifests
from nexa.core.tiers import Tiers
from nexa.orchestrate.exported import Exported
from nexa.orchestrate.output import EXPORTED, read_output
from tests.faults.killed_merge import merge_of
from tests.support.tiny import write_tiny_model

ROOT = Path(__file__).parents[2]
TASK = "merging models"
# Before anything, with a file prepared, with its first tensors written, with all of them, proved,
# sealed, and with the first file of the user's folder written.
POINTS: tuple[dict[str, Any], ...] = (
    {"kind": "step.start", "step": "merge_models"},
    {"kind": "progress.start", "task": TASK},
    {"kind": "progress", "task": TASK},
    {"kind": "progress.end", "task": TASK},
    {"kind": "weights.parity"},
    {"kind": "step.end", "step": "merge_models"},
    {"kind": "saved"},
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("parents")
    return [str(write_tiny_model(root / name, seed=i)) for i, name in enumerate("abc")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "project"


def kill_at(project: Path, models: list[str], *points: dict[str, Any]) -> None:
    """Merge once for each point, in a process of its own that is killed at this event."""
    named = [str(project), str(project / "merged"), json.dumps(models), json.dumps(points)]
    command = [sys.executable, "-m", "tests.faults.killed_merge", *named]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [signal.SIGKILL] * len(points), done.stderr


def scratch_of(project: Path) -> list[Path]:
    return list(Tiers.of(project).scratch.glob("*"))


def exports_of(project: Path) -> list[str]:
    return Tiers.of(project).store.names("export")


def assert_whole(project: Path, made: Exported, models: list[str]) -> None:
    """The store and the folder are those of a merge that nothing happened to."""
    store = Tiers.of(project).store
    assert verify(made.artifact, store) == []
    assert scratch_of(project) == []
    unbroken = merge_of(project.parent / "unbroken", project.parent / "unbroken" / "out", models)
    assert made.artifact.files == unbroken.artifact.files
    assert made.artifact.body == unbroken.artifact.body
    told = read_output(made.folder, EXPORTED)["files"]
    assert {name: told[name] for name in made.artifact.files} == dict(made.artifact.files)
    assert sorted(path.name for path in made.folder.iterdir()) == sorted([*told, EXPORTED.name])


def test_a_merge_that_is_killed_anywhere_is_completed_by_the_next_with_equal_bytes(
    project: Path, models: list[str]
) -> None:
    kill_at(project, models, *POINTS)
    with pytest.raises(IntegrityError, match="not whole"):
        read_output(project / "merged", EXPORTED)

    made = merge_of(project, project / "merged", models)

    assert made.reused  # the last but one was killed after it had sealed what it made
    assert_whole(project, made, models)
    runs = list_manifests(Tiers.of(project).manifests)
    assert [run.status for run in runs] == ["interrupted"] * len(POINTS) + ["done"]
    assert all("is gone: killed" in (run.error or "") for run in runs[:-1])


def test_half_written_weights_are_never_seen_and_are_cleared_by_the_next(
    project: Path, models: list[str]
) -> None:
    kill_at(project, models, {"kind": "progress", "task": TASK})
    [left] = scratch_of(project)
    under_way = [path.name for path in left.rglob("*") if path.is_file()]
    assert [name.rpartition(".")[0] for name in under_way] == [".model.safetensors"]
    assert exports_of(project) == []
    assert not (project / "merged").exists()

    made = merge_of(project, project / "merged", models)

    assert not made.reused
    assert_whole(project, made, models)


@pytest.mark.parametrize("limit_bytes", [100_000, 114_000])
def test_a_full_disk_is_told_before_a_tensor_is_merged_and_a_rerun_completes(
    project: Path, models: list[str], limit_bytes: int
) -> None:
    heard: list[Event] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as caught, listening(heard.append):
            merge_of(project, project / "merged", models)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 11
    assert caught.value.fix == "free some space, then run the same command again"
    assert not any(event["kind"] == "progress" and event["task"] == TASK for event in heard)
    assert scratch_of(project) == []
    assert exports_of(project) == []
    assert [run.status for run in list_manifests(Tiers.of(project).manifests)] == ["failed"]

    assert_whole(project, merge_of(project, project / "merged", models), models)


def test_an_interrupt_ends_it_and_a_rerun_completes(project: Path, models: list[str]) -> None:
    def interrupt(event: Event) -> None:
        if event["kind"] == "progress" and event["task"] == TASK:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        merge_of(project, project / "merged", models)
    assert scratch_of(project) == []
    assert exports_of(project) == []
    assert [run.status for run in list_manifests(Tiers.of(project).manifests)] == ["interrupted"]

    assert_whole(project, merge_of(project, project / "merged", models), models)
