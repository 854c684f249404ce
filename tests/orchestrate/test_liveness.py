from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.core.manifest import ManifestFile, RunManifest, read_manifest
from nexa.core.tiers import Tiers
from nexa.orchestrate import liveness
from tests.support.project import notes

CONFIG = Path("config.yaml")


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers.of(tmp_path)


def opened(tiers: Tiers, run_id: str, **facts: str) -> ManifestFile:
    """A manifest that says `running`, and the note that its process is this one."""
    liveness.note_process(tiers, run_id, CONFIG)
    manifest = RunManifest(run_id=run_id, run_type="train", **facts)  # type: ignore[arg-type]
    return ManifestFile.open(tiers.manifests, manifest)


def renote(tiers: Tiers, run_id: str, **changes: object) -> None:
    """Another process in the note of a run."""
    note = liveness.read_note(tiers, run_id)
    assert note is not None
    path = tiers.root / ".nexa" / "runs" / f"{run_id}.json"
    path.write_text(json.dumps(asdict(replace(note, **changes))))  # type: ignore[arg-type]


def status(tiers: Tiers, run_id: str) -> str:
    return read_manifest(tiers.manifests / f"{run_id}.json").status


def ended_process() -> int:
    """The id of a process that was and is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_this_process_is_alive_and_one_that_had_its_number_is_not(tiers: Tiers) -> None:
    liveness.note_process(tiers, "a", CONFIG)
    note = liveness.read_note(tiers, "a")
    assert note is not None
    assert note.alive
    assert note.pid == os.getpid()
    assert note.config == str(CONFIG.absolute())
    assert not replace(note, started=note.started - 60).alive
    assert not replace(note, boot_id="another").alive
    assert not replace(note, pid=ended_process()).alive


def test_a_dead_run_is_closed_as_interrupted_and_its_scratch_goes(tiers: Tiers) -> None:
    opened(tiers, "dead")
    opened(tiers, "alive")
    renote(tiers, "dead", pid=ended_process())
    left = tiers.new_scratch("dead")
    mine = tiers.new_scratch("alive")
    assert liveness.close_dead_runs(tiers) == ["dead"]
    closed = read_manifest(tiers.manifests / "dead.json")
    assert closed.status == "interrupted"
    assert "is gone: killed, or the machine went down" in (closed.error or "")
    assert status(tiers, "alive") == "running"
    assert (left.exists(), mine.exists()) == (False, True)
    durable = Path(tiers.durable_place("manifests/dead.json"))
    assert durable.read_bytes() == (tiers.manifests / "dead.json").read_bytes()
    assert liveness.close_dead_runs(tiers) == []


def test_a_run_of_which_nothing_is_known_is_left_alone(tiers: Tiers) -> None:
    opened(tiers, "elsewhere")
    (tiers.root / ".nexa" / "runs" / "elsewhere.json").unlink()
    opened(tiers, "garbled")
    (tiers.root / ".nexa" / "runs" / "garbled.json").write_text("{}")
    assert liveness.close_dead_runs(tiers) == []
    assert status(tiers, "elsewhere") == status(tiers, "garbled") == "running"


def test_a_run_that_was_killed_before_its_manifest_was_opened_stops_nobody(tiers: Tiers) -> None:
    liveness.note_process(tiers, "early", CONFIG)
    renote(tiers, "early", pid=ended_process())
    assert liveness.close_dead_runs(tiers) == []


def test_a_closed_manifest_stays_as_it_is(tiers: Tiers) -> None:
    opened(tiers, "failed").close("failed", error="a bad row")
    renote(tiers, "failed", pid=ended_process())
    assert liveness.close_dead_runs(tiers) == []
    assert read_manifest(tiers.manifests / "failed.json").error == "a bad row"


def test_a_durable_storage_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tiers = Tiers.of(tmp_path, {"NEXA_DURABLE": str(tmp_path / "file" / "x")})
    ledger = opened(tiers, "run")
    events: list[Event] = []
    with listening(events.append):
        liveness.keep_manifest(tiers, ledger)
    assert len(notes(events)) == 1
    assert "run.json only: cannot write" in notes(events)[0]


def test_attempts_are_counted_back_to_the_last_good_end(tiers: Tiers) -> None:
    me = RunManifest(run_id="9", run_type="train", config_sha256="a")
    assert liveness.failed_before(tiers.manifests, me) == 0
    for run_id, end, config in (
        ("1", "failed", "a"),
        ("2", "done", "a"),
        ("3", "interrupted", "a"),
        ("4", "failed", "b"),
        ("5", "failed", "a"),
        ("6", "running", "a"),
    ):
        ledger = opened(tiers, run_id, config_sha256=config)
        if end != "running":
            ledger.close(end)  # type: ignore[arg-type]
    (tiers.manifests / "7.json").write_text("not a manifest")
    assert liveness.failed_before(tiers.manifests, me) == 2


def test_a_system_without_a_boot_id_is_told_by_times_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "BOOT_ID", tmp_path / "none")
    assert liveness.boot_id() == ""
