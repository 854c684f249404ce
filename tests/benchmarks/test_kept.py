from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contest.kept import Kept
from tests.benchmarks.made import WORK, kept


def test_every_measurement_is_on_the_disk_at_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    first = kept(path)
    first.add("limit", dtype="bfloat16", gflops=870.0)
    again = Kept(path, WORK.identity)
    assert again.records == first.records
    assert again.names == ["fused", "trl", "reference", "trainer"]
    assert again.limits("bfloat16") == [870.0]


def test_a_line_that_a_kill_tore_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    whole = kept(path).records
    with path.open("a") as file:
        file.write('{"kind": "ru')
    assert Kept(path, WORK.identity).records == whole


def test_measurements_of_other_work_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    kept(path)
    with pytest.raises(SystemExit, match="other work"):
        Kept(path, replace(WORK, rows_sha256="6" * 64).identity)
