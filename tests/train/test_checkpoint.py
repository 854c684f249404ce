from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import Event, listening
from nexa.train import checkpoint
from nexa.train.checkpoint import FILES, MARKER, RunState, newest_valid, read, save
from tests.train.sample import notes

ROOT = Path(__file__).parents[2]


def run_state(step: int, **changes: Any) -> RunState:
    generator = torch.Generator().manual_seed(step)
    values: dict[str, Any] = {
        "step": step,
        "trained": {f"{i:05d}": torch.randn(3, i + 1, generator=generator) for i in range(4)},
        "optimizer": {"00000.step": torch.tensor(float(step)), "00000.exp_avg": torch.ones(3, 1)},
        "records": [{"step": i + 1, "loss": 1 / (i + 3)} for i in range(step)],
        "resolved": {"threads": 1, "inexact": []},
        "facts": {"torch": "9"},
    }
    return RunState(**values | changes)


def assert_equal(a: RunState | None, b: RunState) -> None:
    assert a is not None
    assert (a.step, a.records, a.resolved, a.facts) == (b.step, b.records, b.resolved, b.facts)
    for mine, theirs in ((a.trained, b.trained), (a.optimizer, b.optimizer)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_is_saved_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    state = run_state(7)
    place = save(tmp_path / "run", state)
    assert place.name == "step-000007"
    assert {path.name for path in place.iterdir()} == {*FILES, MARKER}
    assert_equal(read(place), state)
    # Aligned as torch aligns its own: a kernel may round otherwise at another place.
    assert all(tensor.data_ptr() % 64 == 0 for tensor in read(place).trained.values())


def test_an_optimiser_without_memory_has_nothing_to_keep(tmp_path: Path) -> None:
    assert_equal(read(save(tmp_path, run_state(3, optimizer={}))), run_state(3, optimizer={}))


def test_the_newest_is_taken_and_a_run_without_one_begins_anew(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "nothing") is None
    for step in (9, 10, 2):
        save(tmp_path, run_state(step))
    (tmp_path / "step-12").mkdir()
    assert_equal(newest_valid(tmp_path), run_state(10))


@pytest.mark.parametrize("file", [*FILES, MARKER])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, file: str, damage: str) -> None:
    save(tmp_path, run_state(1))
    path = save(tmp_path, run_state(2)) / file
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    if damage == "gone":
        path.unlink()
    events: list[Event] = []
    with listening(events.append):
        assert_equal(newest_valid(tmp_path), run_state(1))
    [note] = notes(events)
    assert "passed over" in note
    assert "step-000002" in note


def test_a_marker_of_another_version_is_no_marker(tmp_path: Path) -> None:
    place = save(tmp_path, run_state(1))
    marker = json.loads((place / MARKER).read_bytes())
    for changed in ({**marker, "schema": "other/1"}, {**marker, "files": {}}, [], {}):
        (place / MARKER).write_text(json.dumps(changed))
        with pytest.raises(IntegrityError, match="no marker"):
            read(place)


def test_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    place = save(tmp_path, run_state(4))
    (place / "trained.safetensors").write_bytes(b"damaged")
    save(tmp_path, run_state(4))
    assert_equal(newest_valid(tmp_path), run_state(4))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000004"]


def test_what_happens_is_told_as_it_happens(tmp_path: Path) -> None:
    events: list[Event] = []
    with listening(events.append):
        save(tmp_path, run_state(1))
    assert [event["kind"] for event in events] == [
        *("checkpoint.start", *["checkpoint.file"] * 3, "checkpoint.marking", "checkpoint.saved"),
    ]


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        save(tmp_path / "file" / "run", run_state(1))


@pytest.mark.parametrize(
    "change",
    [
        {"trained": {"0": torch.zeros(100_000)}},
        {"records": [{"step": i} for i in range(5000)]},
    ],
)
def test_no_room_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    save(tmp_path, run_state(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StorageError) as caught:
            save(tmp_path, run_state(2, **change))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.fix == "free some space, then run the same command again"
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_a_kill_at_any_touch_of_the_file_system_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "first", run_state(1))
    save(tmp_path / "first", run_state(2))
    (tmp_path / "first" / "step-000002" / "state.json").write_text("damaged")
    for touch in range(60):
        shutil.copytree(tmp_path / "first", tmp_path / "killed" / str(touch))
    command = [sys.executable, "-m", "tests.train.crash", str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    killed = int(done.stdout)
    assert 15 < killed < 60
    found = []
    for touch in range(killed + 1):
        folder = tmp_path / "killed" / str(touch)
        state = newest_valid(folder)
        assert state is not None
        assert_equal(state, run_state(state.step))
        found.append(state.step)
        checkpoint.sweep(folder)
        assert [path.name for path in folder.glob(".*")] == []
        assert_equal(read(save(folder, run_state(2))), run_state(2))  # the same once more
    assert found == sorted(found)  # once it is there it is there
    assert set(found) == {1, 2}
