"""What a run will write, place by place, against what is free on each file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa.core.errors import StorageError
from nexa.core.tiers import Tiers
from nexa.orchestrate.check import space
from tests.support.project import config_of

GB = 1_000_000_000


def plan_of(folder: Path, tiers: Tiers) -> dict[str, int]:
    plan = space.planned(config_of(folder), tiers, parameters=1000, trained=10, data_bytes=7)
    return {what: size for _, size, what in plan}


def test_a_project_on_one_file_system_links_and_counts_once(tmp_path: Path) -> None:
    assert plan_of(tmp_path, Tiers.of(tmp_path)) == {
        "checkpoints to resume from": 3 * 4 * 10 * 3,
        "model, adapter and dataset": 2000 + 40 + 14,
        "the trained model": 2040,
    }


def test_tiers_on_other_file_systems_are_copied_to(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system here")
    environment = {"NEXA_SCRATCH": str(other / "s"), "NEXA_DURABLE": str(other / "d")}
    plan = plan_of(tmp_path, Tiers.of(tmp_path, environment))
    assert plan["the model under way"] == 2040
    assert plan["durable copies"] == 40 + 14


def test_durable_storage_elsewhere_takes_no_disk(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path, {"NEXA_DURABLE": "memory://x"})
    assert "durable copies" not in plan_of(tmp_path, tiers)


def test_places_of_one_file_system_are_summed(tmp_path: Path) -> None:
    plan = [(str(tmp_path / "a"), GB, "one"), (str(tmp_path / "b"), GB, "two")]
    assert space.check(plan, lambda _: 3 * GB) == "2.00 GB needed of 3.00 GB free"
    with pytest.raises(StorageError, match="not enough disk space") as caught:
        space.check(plan, lambda _: 2 * GB)
    assert f"1.000 GB one: {tmp_path / 'a'}" in str(caught.value.found)


def test_a_place_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the system's answer is put in its place.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match="could not be kept"):
        space.check([(str(tmp_path), 1, "checkpoints")], lambda _: GB)
