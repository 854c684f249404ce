from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.contest.kept import Kept
from benchmarks.contest.table import Contest, markdown
from tests.benchmarks.made import WORK, kept, run


def test_the_table_has_a_row_for_everybody_the_fastest_first() -> None:
    told = markdown(Contest(WORK, kept()))
    names = [line.split("|")[1].strip() for line in told.splitlines() if " GB |" in line]
    assert names == [
        "**Nexa**, fused",
        "TRL SFTTrainer, defaults",
        "Nexa, generic, float32",
        "transformers.Trainer + PEFT, float32",
    ]


def test_losses_are_compared_with_float32_of_the_same_labels() -> None:
    lines = markdown(Contest(WORK, kept())).splitlines()
    ours = next(line for line in lines if line.startswith("| **Nexa**, fused | 112"))
    theirs = next(line for line in lines if line.startswith("| TRL") and " GB |" in line)
    assert "0.2500 in 3 steps" in ours
    assert "0.2500 in 2 steps" in theirs


def test_the_reader_is_told_the_work_the_ratio_and_what_differs() -> None:
    told = markdown(Contest(WORK, kept()))
    assert f"`rows.jsonl` (sha256 {WORK.rows_sha256})" in told
    assert "**Nexa**, fused, pair by pair: 2.25 times TRL SFTTrainer, defaults;" in told
    assert "TRL SFTTrainer, defaults (+1.00)" in told


def test_the_share_of_the_machines_limit_is_told_when_it_was_measured(tiny_llama: Path) -> None:
    work = replace(WORK, model=str(tiny_llama))
    measured = kept(work=work)
    measured.add("limit", dtype="bfloat16", gflops=0.5)
    contest = Contest(work, measured)
    assert "100%" not in markdown(contest)
    ceiling = contest.limit_tokens_per_s(steps=3)
    assert ceiling is not None
    assert f"{112.5 / ceiling:.0%}" in markdown(contest)


def test_without_a_reference_no_distance_is_told_and_a_check_that_was_made_is() -> None:
    alone = Kept(None, WORK.identity)
    alone.add("check", contestant="fused", seconds=20.0)
    alone.add("run", contestant="fused", **run([1, 1], [1, 1], check_cached=False))
    told = markdown(Contest(WORK, alone))
    assert "0.0000 in" not in told
    assert "The start of **Nexa**, fused holds a flight check" in told
    assert "`nexa check` made for fused took 20.0 s." in told


def test_another_template_is_named() -> None:
    other = Kept(None, WORK.identity)
    steps = run([1, 1], [1, 1])
    steps["steps"][0]["tokens"] = 1
    other.add("run", contestant="trl", **steps)
    assert "counts other tokens" in markdown(Contest(WORK, other))
