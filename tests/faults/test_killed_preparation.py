"""A preparation that is killed at any moment leaves no torn version, and the next one completes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nexa.core.lineage import verify
from nexa.core.manifest import list_manifests
from nexa.core.tiers import Tiers
from nexa.data.registry import read
from tests.support.project import rows, write_project, write_rows

ROOT = Path(__file__).parents[2]
MOMENTS = 10
WITH_PROCESSES = 2
Job = tuple[Path, int | None, bool]


def prepare(*jobs: Job) -> list[tuple[int | None, int]]:
    """`nexa data prepare` in processes of their own: how each ended, after how many events."""
    told = [[str(root / "config.yaml"), last, processes] for root, last, processes in jobs]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_preparation", json.dumps(told)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr
    return [(signal_, count) for signal_, count in json.loads(done.stdout)]


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path) -> Path:
    """Rows to train on, some of them copies, and rows that are held out."""
    root = tmp_path / "p"
    root.mkdir()
    write_project(root, tiny_llama)
    write_rows(root / "train.jsonl", [*rows(range(60)), *rows([3, 101])])
    return root


def made(root: Path) -> dict[str, dict[str, Any]]:
    """Every version of every dataset and suite: its files; each of them is whole."""
    store = Tiers.of(root).store
    found = {}
    for kind in ("dataset", "suite"):
        for name in store.names(kind):
            for version in store.versions(kind, name):
                artifact = store.get(kind, f"{name}@{version}")
                assert verify(artifact, store) == []
                found[artifact.label] = dict(artifact.files)
    return found


def registered(root: Path) -> dict[str, dict[str, Any]]:
    path = root / "dataset_registry.yaml"
    entries = read(path) if path.exists() else {}
    return {
        name: {version: entry["digest"] for version, entry in versions.items()}
        for name, versions in entries.items()
    }


def copies(project: Path, names: Sequence[str]) -> list[Path]:
    # A dataset is named for its folder.
    return [Path(shutil.copytree(project, project.parent / name / project.name)) for name in names]


def test_a_preparation_that_is_killed_anywhere_is_completed_by_the_next(project: Path) -> None:
    (whole,) = copies(project, ["whole"])
    ((ended, events),) = prepare((whole, None, False))
    assert ended is None
    expected, entries = made(whole), registered(whole)
    assert list(entries) == ["p"]
    moments = random.Random(6).sample(range(1, events), MOMENTS)
    roots = copies(project, [f"at-{moment}" for moment in moments])
    jobs = [
        (root, moment, number < WITH_PROCESSES)
        for number, (root, moment) in enumerate(zip(roots, moments, strict=True))
    ]
    assert [ended for ended, _ in prepare(*jobs)] == [signal.SIGKILL] * MOMENTS

    for root in roots:
        assert all(expected[label] == files for label, files in made(root).items())
        assert registered(root) in ({}, entries)
    assert {ended for ended, _ in prepare(*((root, None, False) for root in roots))} == {None}

    for root in roots:
        assert made(root) == expected
        assert list(Tiers.of(root).scratch.iterdir()) == []
        runs = list_manifests(Tiers.of(root).manifests)
        assert runs[-1].status == "done"
        assert all(run.status == "interrupted" for run in runs[:-1])
        assert registered(root) == entries
