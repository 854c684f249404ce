"""A fast part of benchmarks/intervals.py: false alarms, coverage, labels and power, seeded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import intervals
from benchmarks.intervals import Suites, equal_models, gains, labels, means, power, told

RESAMPLES = 2000  # of 10,000: the intervals' ends move by a percent of their width


def test_equal_models_are_rarely_called_improved() -> None:
    """At most 10 of the first 200 draws, and 4 % of all; nominal is 2.5 %."""
    for row in equal_models(1000, RESAMPLES, groups=(3, 8, 26)):
        assert row.figures["of the first 200"] <= 10, row
        assert row.figures["improved"] <= 0.04, row
        assert row.figures["worse"] <= 0.04, row


def test_the_bootstrap_alone_would_call_equal_models_different_too_often() -> None:
    """Why edition 2 exists: three groups, and few changes among many rows."""
    rows = equal_models(1000, RESAMPLES, groups=(3, 64))
    alone = {(row.case, row.groups, row.sizes): row.figures for row in rows}
    assert alone["continuous", 3, "one"]["bootstrap alone: improved"] > 0.1
    assert alone["binary 0.05", 64, "one"]["bootstrap alone: improved"] > 0.03


def test_intervals_of_64_groups_hold_the_truth_as_often_as_they_say() -> None:
    """93 to 97 % of 2,000, more where a model is nearly always right or wrong and rows are few."""
    for row in means(2000, RESAMPLES, groups=(64,)):
        most = 0.995 if row.case in ("right 0.02", "right 0.98") else 0.97
        assert 0.93 <= row.figures["covered"] <= most, row


def test_differences_are_held_too() -> None:
    for row in gains(1000, RESAMPLES, groups=(26, 64)):
        assert 0.93 <= row.figures["covered"] <= 0.985


def test_a_corrected_judge_holds_the_truth_and_is_never_much_wider() -> None:
    for row in labels(60, 500, labelled=(24,)):
        assert row.figures["covered"] >= 0.88  # 60 draws: two standard errors below 0.95
        assert row.figures["width"] <= 1.06 * row.figures["width of people alone"]


def test_what_is_said_before_a_run_is_found_four_times_in_five() -> None:
    for row in power(1000, RESAMPLES, groups=(16, 64)):  # 16: and in six groups
        assert row.figures["found"] == pytest.approx(0.8, abs=0.06)


def test_suites_that_are_computed_otherwise_stop_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suites = Suites(np.array([[0.5, 1.0, 0.0]]), np.ones((1, 3)), (0.0, 1.0))
    monkeypatch.setattr(intervals, "one", lambda found, both: (0.0, 0.0))
    with pytest.raises(SystemExit, match=r"by nexa\.core\.clusters"):
        intervals.intervals(suites, 100, both=True)


def test_the_program_prints_its_tables_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intervals, "TABLES", (lambda d, r: power(d, r, groups=(8,)),))
    out = tmp_path / "figures.json"
    monkeypatch.setattr(
        sys, "argv", ["intervals", "--draws", "20", "--resamples", "100", "--json", str(out)]
    )
    intervals.main()
    rows = power(20, 100, groups=(8,))
    assert told(rows) in capsys.readouterr().out
    assert json.loads(out.read_text())["rows"][0]["figures"] == rows[0].figures
