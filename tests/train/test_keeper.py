from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nexa.core.errors import StorageError
from nexa.core.events import Event, listening
from nexa.core.store import SPARE_BYTES, free_bytes
from nexa.train import checkpoint
from nexa.train.checkpoint import RunState
from nexa.train.keeper import Keeper
from tests.train.sample import notes
from tests.train.test_checkpoint import run_state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def disk_for(most: int) -> Callable[[Path, RunState], Path]:
    """A writer on a disk that holds so many checkpoints."""

    def write(folder: Path, state: RunState) -> Path:
        if len(checkpoint.checkpoints(folder)) >= most:
            raise StorageError("cannot write it: no space left on device")
        return checkpoint.save(folder, state)

    return write


def test_checkpoints_come_at_their_time_and_never_after_the_last_step(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=4)
    assert [step for step in range(1, 13) if keeper.due(step, 12)] == [4, 8]


def test_the_newest_are_kept_and_older_ones_go(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=1, keep=2)
    assert keeper.newest is None
    for step in (1, 2, 3):
        keeper.save(run_state(step))
    assert names(tmp_path) == ["step-000002", "step-000003"]
    assert keeper.newest == 3


def test_a_resumed_run_keeps_the_one_it_came_from_and_drops_damaged_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, run_state(step))
    keeper = Keeper(tmp_path, every=1, keep=2)
    keeper.resumed(2)  # 3 was damaged
    assert keeper.newest == 2
    keeper.save(run_state(4))
    assert names(tmp_path) == ["step-000002", "step-000004"]


def test_one_that_a_signal_left_takes_no_regular_one_s_place(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=4, keep=2)
    for step in (4, 8, 9, 9):  # 9: a run that was ended, and ended again
        keeper.save(run_state(step))
    assert names(tmp_path) == ["step-000004", "step-000008", "step-000009"]
    keeper.save(run_state(12))
    assert names(tmp_path) == ["step-000008", "step-000012"]


def test_the_way_back_leads_to_a_regular_one_and_voids_what_came_after(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=4, keep=2)
    for step in (4, 8, 10):
        keeper.save(run_state(step))
    assert keeper.before(3) is None
    found = keeper.before(11)
    assert found is not None
    assert found.step == keeper.newest == 8  # an unbroken run would have no 10
    keeper.save(run_state(9))
    assert names(tmp_path) == ["step-000004", "step-000008", "step-000009"]
    (tmp_path / "step-000008" / "state.json").write_text("damaged")
    events: list[Event] = []
    with listening(events.append):
        found = keeper.before(9)
    assert found is not None
    assert found.step == keeper.newest == 4
    assert "passed over" in notes(events)[0]


def test_on_a_full_disk_an_older_one_makes_room(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=1, keep=3, write=disk_for(2))
    for step in (1, 2, 3):
        keeper.save(run_state(step))
    assert names(tmp_path) == ["step-000002", "step-000003"]
    assert keeper.newest == 3


@pytest.mark.root
def test_a_disk_that_is_really_full_keeps_the_newest_two_it_can_hold(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        keeper = Keeper(disk / "run", every=1, keep=9)
        for step in range(1, 6):
            big = {"0": torch.full((70_000,), float(step))}  # 280 kB: three fit
            keeper.save(run_state(step, trained=big))
        found = checkpoint.newest_valid(disk / "run")
        assert found is not None
        assert found.step == keeper.newest == 5
        assert 2 <= len(names(disk / "run")) <= 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_last_good_one_is_never_given_up_and_the_run_goes_on(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=1, keep=3, write=disk_for(1))
    keeper.save(run_state(1))
    events: list[Event] = []
    with listening(events.append):
        keeper.save(run_state(2))
        keeper.save(run_state(3))
    assert names(tmp_path) == ["step-000001"]
    assert [note.split(":")[0] for note in notes(events)] == [
        "no checkpoint of step 2",
        "no checkpoint of step 3",
    ]
    assert notes(events)[1].endswith("step 1 is kept")


def test_without_any_good_one_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, every=1, write=disk_for(0))
    with pytest.raises(StorageError, match="no space left"):
        keeper.save(run_state(1))


def test_each_goes_to_a_second_place_which_may_fail(tmp_path: Path) -> None:
    sent: list[str] = []

    def commit(place: Path) -> None:
        sent.append(place.name)
        if len(sent) == 2:
            raise StorageError("cannot reach it")

    keeper = Keeper(tmp_path, every=1, commit=commit)
    events: list[Event] = []
    with listening(events.append):
        for step in (1, 2, 3):
            keeper.save(run_state(step))
    assert sent == ["step-000001", "step-000002", "step-000003"]
    assert notes(events) == ["step-000002 is on this machine only: cannot reach it"]


def test_room_for_all_that_will_stand_at_once_is_asked_for_before_the_start(tmp_path: Path) -> None:
    free = free_bytes(tmp_path) - SPARE_BYTES
    (tmp_path / ".step-000009.left").mkdir()
    keeper = Keeper(tmp_path, every=1, keep=2)
    with pytest.raises(StorageError, match="3 checkpoints of the run"):
        keeper.make_room(free // 36 + 1, "adamw", result_bytes=0)
    assert names(tmp_path) == []  # what a killed writer left is gone
    keeper.make_room(free // 36 // 2, "adamw", result_bytes=0)
    keeper.kept = [tmp_path / "step-000001", tmp_path / "step-000002"]
    keeper.make_room(free // 36 * 2, "adamw", result_bytes=0)  # one more is needed
    with pytest.raises(StorageError, match="1 checkpoints"):
        keeper.make_room(free // 36 * 2, "adamw", result_bytes=free)


def test_they_go_when_nothing_will_go_on_from_them(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "run", every=1)
    keeper.save(run_state(1))
    keeper.clear()
    assert names(tmp_path) == []
    assert keeper.newest is None
