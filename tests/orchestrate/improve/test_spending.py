"""What a pass has cost: runs by their logs, teachers by their journals, and what still fits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nexa.core.errors import BudgetSpent
from nexa.core.manifest import ManifestFile, RunManifest
from nexa.core.tiers import Tiers
from nexa.lm.journal import HEADER
from nexa.orchestrate.improve.book import Book
from nexa.orchestrate.improve.spending import Budget, paid_usd, seconds_of

CONFIG = "ab" * 32


def log(path: Path, *times: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"t": t, "kind": "note"}) + "\n" for t in times))


def run(tiers: Tiers, run_id: str, seconds: float, **facts: object) -> None:
    fields = {"run_type": "improve", "config_sha256": CONFIG, "status": "interrupted", **facts}
    ManifestFile.open(tiers.manifests, RunManifest(run_id=run_id, **fields))  # type: ignore[arg-type]
    log(tiers.logs / f"{run_id}.jsonl", 1000.0, 1000.0 + seconds)


def budget(tiers: Tiers, limit: float | None) -> Budget:
    book = Book(tiers.root / "book.json")
    book.begin({})
    book.now.begun, book.now.began_at = "2026-02-01-120000", 999.5
    return Budget(tiers, book, CONFIG, 3600.0, limit)  # a dollar a second


def test_killed_runs_of_this_pass_count_and_no_others(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    run(tiers, "2026-02-01-115959-aaaa", 100.0)
    run(tiers, "2026-02-01-120000-aaaa", 2.0, run_type="train", status="done")
    run(tiers, "2026-02-01-120100-aaaa", 3.0)
    run(tiers, "2026-02-01-120200-aaaa", 100.0, run_type="eval")
    run(tiers, "2026-02-01-120300-aaaa", 100.0, config_sha256="cd" * 32)
    run(tiers, "2026-02-01-120000-bbbb", 100.0)  # in that second, but before the pass
    log(tiers.logs / "2026-02-01-120000-bbbb.jsonl", 999.0, 1099.0)
    assert budget(tiers, None).spent_usd() == 5.0
    assert budget(tiers, None).left_usd() is None
    assert budget(tiers, 7.0).left_usd() == 2.0
    assert budget(tiers, 4.0).left_usd() == 0.0


def test_a_step_that_would_not_fit_is_refused(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    run(tiers, "2026-02-01-120000-aaaa", 2.0)
    budget(tiers, None).require("anything", 1e9)
    budget(tiers, 5.0).require("a training", 3.0)
    with pytest.raises(BudgetSpent, match="does not reach for a training") as refused:
        budget(tiers, 5.0).require("a training", 3.5)
    assert refused.value.found == "2.0000 USD are spent, and a training may cost 3.5000"
    with pytest.raises(BudgetSpent) as spent:
        budget(tiers, 2.0).require("a training")
    assert spent.value.found == "2.0000 USD are spent"


def test_a_teacher_s_dollars_are_those_since_the_pass_began(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    tiers.requests.mkdir(parents=True)
    sent = b'{"sent": 1, "key": "k", "at": "", "most_usd": 0.5}\n'
    (tiers.requests / "job.jsonl").write_bytes(HEADER + sent)
    assert paid_usd(tiers, {"job.jsonl": 0.125}) == 0.375
    assert paid_usd(tiers, {"job.jsonl": 2.0, "none.jsonl": 0.0}) == 0.0


def test_seconds_are_those_from_the_first_to_the_last_event(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert seconds_of(path) == 0.0
    path.touch()
    assert seconds_of(path) == 0.0
    log(path, 100.0, 105.0, 110.5)
    assert seconds_of(path) == 10.5


def test_a_run_that_is_under_way_counts_until_now(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    run(tiers, "2026-02-01-120000-aaaa", 0.0, status="running")
    log(tiers.logs / "2026-02-01-120000-aaaa.jsonl", time.time() - 100.0)
    assert budget(tiers, None).spent_usd() >= 100.0
