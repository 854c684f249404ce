"""A made work and made runs of it, for tests that measure nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.contest.kept import Kept
from benchmarks.contest.work import Work

WORK = Work(
    model="models/tiny",
    rows_name="rows.jsonl",
    rows_sha256="5" * 64,
    rows_per_step=2,
    rows=7,
    tokens=[100, 200, 400],
    label_tokens=[50, 60, 80],
    token_pairs=[5000, 20000, 80000],
)


def run(seconds: list[float], losses: list[float], **changes: Any) -> dict[str, Any]:
    """What is seen of a run."""
    steps = [{"seconds": s, "loss": loss} for s, loss in zip(seconds, losses, strict=True)]
    return {
        "steps": steps,
        "start_to_first_step_s": 7.0,
        "peak_rss_bytes": 2_000_000_000,
        "versions": {"torch": "2.13.0"},
        **changes,
    }


def kept(path: Path | None = None, *, work: Work = WORK) -> Kept:
    """Two pairs of Nexa and TRL, the reference, and the peers' reference."""
    made = Kept(path, work.identity)
    for speed in (1.0, 1.25):
        made.add("run", contestant="fused", **run([9, 2 / speed, 4 / speed], [2.0, 1.5, 1.25]))
        peer = run([9, 4, 8], [2.0, 1.75, 1.25])
        for step, labels in zip(peer["steps"], work.label_tokens, strict=True):
            step["label_tokens"] = labels + work.rows_per_step
        made.add("run", contestant="trl", **peer)
    made.add("run", contestant="reference", **run([9, 9, 9], [2.0, 1.5, 1.0]))
    made.add("run", contestant="trainer", **run([9, 9], [2.0, 1.5]))
    return made
