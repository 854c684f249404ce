"""One stream of events: who hears it, and what stays of it when a run is killed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.errors import StorageError
from nexa.core.events import Event, EventLog, emit, listening, progress, read_events


def heard(events: list[Event]) -> list[Event]:
    return [{key: value for key, value in event.items() if key != "t"} for event in events]


def test_nobody_listening_costs_nothing_and_breaks_nothing() -> None:
    emit("note", text="into the void")


def test_every_sink_hears_the_same_event_and_none_after_its_block() -> None:
    first: list[Event] = []
    second: list[Event] = []
    with listening(first.append):
        emit("a.one", n=1)
        with listening(second.append):
            emit("a.two", n=2)
        emit("a.three", n=3)
    emit("a.four", n=4)
    assert [event["n"] for event in first] == [1, 2, 3]
    assert heard(second) == [{"kind": "a.two", "n": 2}]
    assert first[1] is second[0]
    assert isinstance(first[0]["t"], float)


def test_an_error_in_the_block_still_ends_the_listening() -> None:
    events: list[Event] = []
    with pytest.raises(RuntimeError), listening(events.append):
        raise RuntimeError
    emit("note")
    assert events == []


def test_progress_tells_start_each_step_and_end() -> None:
    events: list[Event] = []
    with listening(events.append), progress("training", 4, "steps") as bar:
        bar.advance(loss=2.5)
        bar.advance(3, loss=1.5, lr=0.1)
    task: dict[str, Any] = {"task": "training", "total": 4, "unit": "steps"}
    assert heard(events) == [
        {"kind": "progress.start", **task},
        {"kind": "progress", **task, "done": 1, "loss": 2.5},
        {"kind": "progress", **task, "done": 4, "loss": 1.5, "lr": 0.1},
        {"kind": "progress.end", **task, "done": 4},
    ]
    assert bar.fields == {"loss": 1.5, "lr": 0.1}


def test_progress_ends_also_when_its_block_fails() -> None:
    events: list[Event] = []
    with pytest.raises(ValueError, match="boom"), listening(events.append), progress("work"):
        raise ValueError("boom")
    assert [event["kind"] for event in events] == ["progress.start", "progress.end"]


def test_the_log_is_there_line_by_line_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "logs" / "r.jsonl"
    log = EventLog(path)
    log({"kind": "a", "path": Path("x"), "text": "é\u2028line"})
    assert [event["kind"] for event in read_events(path)] == ["a"]  # before it is closed
    log.close()
    log.close()
    with listening(again := EventLog(path)):
        emit("b", loss=math.nan)
    again.close()
    first, second = read_events(path)
    assert first == {"kind": "a", "path": "x", "text": "é\u2028line"}
    assert second["kind"] == "b"
    assert math.isnan(second["loss"])


def test_a_log_torn_at_any_byte_keeps_every_event_before_the_tear(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = EventLog(path)
    for n in range(3):
        log({"kind": "note", "n": n, "text": "Ünïcode — 金"})
    log.close()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n")
        # The last line may be whole and lack only its line end.
        assert [event["n"] for event in read_events(path)][:kept] == list(range(kept))


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20) | st.integers()))
def test_any_text_comes_back_as_it_went_in(tmp_path_factory: Any, fields: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = EventLog(path)
    log(fields)
    log.close()
    assert read_events(path) == [fields]


def test_half_a_surrogate_pair_does_not_stop_a_run(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log({"kind": "saved", "path": "caf\udce9"})
    log.close()
    assert read_events(tmp_path / "log") == [{"kind": "saved", "path": "caf\udce9"}]


def test_a_secret_never_reaches_the_log(tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 9
    log = EventLog(tmp_path / "log")
    log({"kind": "note", "text": f"Authorization: Bearer {token}"})
    log.close()
    assert token not in (tmp_path / "log").read_text()
    assert read_events(tmp_path / "log")[0]["text"] == "Authorization: Bearer [redacted]"


def test_a_log_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="run's log"):
        EventLog(tmp_path / "runs" / "r.jsonl")


def test_a_log_that_meets_a_full_disk_stops_the_run(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from nexa.core.errors import StorageError
from nexa.core.events import EventLog
log = EventLog(Path(sys.argv[1]))
log({"kind": "first"})
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    log({"kind": "second", "text": "x" * 100})
except StorageError as error:
    print(error.exit_code, error.what)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("11 cannot write the run's log")
    assert read_events(tmp_path / "log")[0] == {"kind": "first"}


def test_the_log_is_one_json_object_a_line(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    log({"kind": "note", "text": "two\nlines"})
    log.close()
    assert [json.loads(line) for line in (tmp_path / "log").read_text().split("\n")[:-1]] == [
        {"kind": "note", "text": "two\nlines"}
    ]
