from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from nexa.core.errors import UsageError
from nexa.core.events import Event, listening
from nexa.core.tiers import Tiers
from nexa.orchestrate.run_checkpoints import RunCheckpoints
from nexa.train.checkpoint import RunState, newest_valid, save
from tests.support.project import notes

RECIPE = "ab" * 32


def run_state(step: int) -> RunState:
    return RunState(step, {"0": torch.full((2,), float(step))}, {}, [], {}, {})


@pytest.fixture
def here(tmp_path: Path) -> RunCheckpoints:
    return RunCheckpoints(Tiers.of(tmp_path / "project", {}), RECIPE)


@pytest.fixture(params=["folder", "memory"])
def apart(request: pytest.FixtureRequest, tmp_path: Path) -> RunCheckpoints:
    """Checkpoints with a real second place: a folder elsewhere, or an address."""
    place = tmp_path / "durable" if request.param == "folder" else f"memory://{tmp_path.name}"
    tiers = Tiers.of(tmp_path / "project", {"NEXA_DURABLE": str(place)})
    return RunCheckpoints(tiers, RECIPE)


def another_machine(checkpoints: RunCheckpoints, tmp_path: Path) -> RunCheckpoints:
    tiers = Tiers.of(tmp_path / "other", {"NEXA_DURABLE": checkpoints.tiers.durable})
    return RunCheckpoints(tiers, RECIPE)


def newest(checkpoints: RunCheckpoints) -> int | None:
    state = newest_valid(checkpoints.folder)
    return None if state is None else state.step


def test_the_recipe_names_the_place(here: RunCheckpoints) -> None:
    assert here.folder == here.tiers.scratch / "checkpoints" / RECIPE[:32]
    assert not here.has_second_place


def test_the_project_s_own_durable_folder_is_no_second_place(tmp_path: Path) -> None:
    inside = Tiers.of(tmp_path, {"NEXA_DURABLE": str(tmp_path / "durable")})
    assert not RunCheckpoints(inside, RECIPE).has_second_place


def test_a_second_process_of_the_same_recipe_is_refused(here: RunCheckpoints) -> None:
    other = RunCheckpoints(here.tiers, "cd" * 32)
    with here.held():
        with pytest.raises(UsageError, match="under way in another process"), here.held():
            pass
        with other.held():
            pass
    with here.held():
        pass


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tiers = Tiers.of(tmp_path, {"NEXA_SCRATCH": str(tmp_path / "file")})
    with pytest.raises(OSError, match="file"), RunCheckpoints(tiers, RECIPE).held():
        pass


def test_nothing_is_left_when_it_is_emptied(here: RunCheckpoints) -> None:
    with here.held():
        save(here.folder, run_state(3))
    here.empty()
    assert list(here.tiers.scratch.iterdir()) == []
    here.empty()


def test_another_recipe_s_checkpoints_stay(here: RunCheckpoints) -> None:
    other = RunCheckpoints(here.tiers, "cd" * 32)
    for checkpoints in (here, other):
        save(checkpoints.folder, run_state(1))
    here.empty()
    assert newest(other) == 1


def test_a_fresh_machine_goes_on_from_the_second_place(
    apart: RunCheckpoints, tmp_path: Path
) -> None:
    assert apart.has_second_place
    for step in (10, 20):
        apart.commit(save(apart.folder, run_state(step)))
    other = another_machine(apart, tmp_path)
    events: list[Event] = []
    with listening(events.append), other.held():
        assert newest(other) == 20
    assert [note.split(" was ")[0] for note in notes(events)] == ["step-000020"]
    apart.empty()
    with another_machine(apart, tmp_path / "third").held():
        assert newest(another_machine(apart, tmp_path / "third")) is None


def test_what_training_removed_here_is_removed_there(apart: RunCheckpoints) -> None:
    for step in (1, 2):
        place = save(apart.folder, run_state(step))
        apart.commit(place)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    apart.commit(save(apart.folder, run_state(3)))
    names = apart.tiers.committed(f"run_state/{RECIPE[:32]}")
    assert names == ["step-000001", "step-000003"]


def test_a_newer_one_here_is_taken_and_a_damaged_one_is_not(
    apart: RunCheckpoints, tmp_path: Path
) -> None:
    apart.commit(save(apart.folder, run_state(20)))
    other = another_machine(apart, tmp_path)
    damaged = save(other.folder, run_state(20)) / "state.json"
    damaged.write_text("damaged")
    with other.held():
        assert newest(other) == 20
    save(other.folder, run_state(30))
    events: list[Event] = []
    with listening(events.append), other.held():
        assert newest(other) == 30
    assert notes(events) == []


def test_a_damaged_one_there_is_passed_over_by_name(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path / "project", {"NEXA_DURABLE": str(tmp_path / "durable")})
    apart = RunCheckpoints(tiers, RECIPE)
    for step in (10, 20):
        apart.commit(save(apart.folder, run_state(step)))
    there = Path(tiers.durable_place(f"run_state/{RECIPE[:32]}/step-000020/state.json"))
    os.unlink(there)
    there.write_text("damaged")
    other = another_machine(apart, tmp_path)
    events: list[Event] = []
    with listening(events.append), other.held():
        assert newest(other) == 10
    assert "step-000020: state.json is not what was committed" in notes(events)[0]


def test_a_second_place_that_is_gone_at_the_end_is_told(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path / "project", {"NEXA_DURABLE": str(tmp_path / "durable")})
    apart = RunCheckpoints(tiers, RECIPE)
    apart.commit(save(apart.folder, run_state(1)))
    folder = Path(tiers.durable_place("run_state"))
    folder.rename(tmp_path / "moved")
    folder.write_text("a file in its place")
    events: list[Event] = []
    with listening(events.append):
        apart.empty()
    assert "left in durable storage" in notes(events)[0]
