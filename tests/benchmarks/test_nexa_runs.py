from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.contest import nexa_runs, work
from benchmarks.contest.contestants import REFERENCE
from tests.support.project import rows, write_rows


def told(kind: str, t: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "t": t, **fields}


def test_a_step_lasts_from_the_event_before_it_to_its_own() -> None:
    heard = [
        told("flight.check", 103.0, made=True, cached=True),
        told("progress.start", 104.0, task="reading"),
        told("progress.start", 106.0, task="training"),
        told("progress", 109.0, task="training", done=1, loss=2.0),
        told("progress", 109.5, task="elsewhere", done=1, loss=9.0),
        told("progress", 110.0, task="training", done=1, loss=2.0),  # told again, not another step
        told("progress", 111.0, task="training", done=2, loss=1.5),
    ]
    run = nexa_runs.seen(heard, begin=100.0)
    assert run["start_to_first_step_s"] == 6.0
    assert run["steps"] == [{"seconds": 3.0, "loss": 2.0}, {"seconds": 2.0, "loss": 1.5}]
    assert run["moments"][-1] == ["progress.start", 6.0]
    assert run["check_cached"]


def test_a_start_that_holds_a_flight_check_says_so() -> None:
    start = told("progress.start", 2.0, task="training")
    assert not nexa_runs.seen([told("flight.check", 1.0, made=True, cached=False), start], 0.0)[
        "check_cached"
    ]
    assert nexa_runs.seen([told("flight.check", 1.0, made=False, cached=False), start], 0.0)[
        "check_cached"
    ]


def test_nexa_is_run_as_its_user_runs_it_until_its_training_has_ended(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = write_rows(tmp_path / "train.jsonl", rows(range(20)))
    made = work.make(tmp_path / "work", path, tiny_llama, 4)
    run = nexa_runs.run(tmp_path / "work", made, 2, REFERENCE)
    assert len(run["steps"]) == 2
    kinds = [kind for kind, _ in run["moments"]]
    assert kinds.count("step.reused") == 2  # the data were prepared, under whatever name
    assert run["start_to_first_step_s"] > 0
    assert run["peak_rss_bytes"] > 10**8
    assert (run["resolved"]["executor"], run["resolved"]["precision"]) == ("generic", "float32")


def test_a_training_that_ends_early_is_told_with_its_last_words(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = write_rows(tmp_path / "elements.jsonl", rows(range(20)))
    made = work.make(tmp_path / "work", path, tiny_llama, 4)
    (tmp_path / "work" / work.PREPARED / path.name).unlink()
    with pytest.raises(SystemExit, match=r"ended before its training did"):
        nexa_runs.run(tmp_path / "work", made, 2, REFERENCE)
