"""What the runs of a contestant come to: medians over steps and runs, distances of losses."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .kept import Record
from .work import Work


@dataclass(frozen=True)
class Figures:
    """One contestant. The first step of every run is told apart and is in no rate."""

    runs: int
    steps: int  # of each run
    tokens_per_s: float  # without padding
    slowest_run: float  # tokens/s of the slowest and of the fastest run
    fastest_run: float
    label_tokens_per_s: float
    peak_rss_bytes: float
    start_to_first_step_s: float
    first_step_s: float
    losses: tuple[float, ...]  # of the first run: equal ones are expected of the others
    same_tokens: bool  # the contestant has counted as many as the work has
    more_labels: float  # label tokens a row that it learnt beyond those of the work
    check_cached: bool  # no run's start holds a flight check that was made anew


def figures(runs: Sequence[Record], work: Work) -> Figures:
    """The figures of a contestant's runs, one at least."""
    rates = [run_rate(run, work.tokens) for run in runs]
    return Figures(
        runs=len(runs),
        steps=min(len(run["steps"]) for run in runs),
        tokens_per_s=statistics.median(rates),
        slowest_run=min(rates),
        fastest_run=max(rates),
        label_tokens_per_s=statistics.median(run_rate(run, work.label_tokens) for run in runs),
        peak_rss_bytes=max(run["peak_rss_bytes"] for run in runs),
        start_to_first_step_s=statistics.median(run["start_to_first_step_s"] for run in runs),
        first_step_s=statistics.median(run["steps"][0]["seconds"] for run in runs),
        losses=tuple(step["loss"] for step in runs[0]["steps"]),
        same_tokens=all(_more(run, "tokens", work.tokens) == 0 for run in runs),
        more_labels=_more(runs[0], "label_tokens", work.label_tokens) / work.rows_per_step,
        check_cached=all(run.get("check_cached", True) for run in runs),
    )


def run_rate(run: Record, counts: Sequence[int]) -> float:
    """The median of `counts` a second over a run's steps but the first.

    A run of one step has no other; then it is that one.
    """
    rates = [count / step["seconds"] for count, step in zip(counts, run["steps"], strict=False)]
    return float(statistics.median(rates[1:] or rates))


def ratio(ours: Sequence[Record], theirs: Sequence[Record], work: Work) -> float:
    """How many times as fast, pair by pair in the order of the runs: the median over the pairs."""
    pairs = zip(ours, theirs, strict=False)
    return statistics.median(
        run_rate(our, work.tokens) / run_rate(their, work.tokens) for our, their in pairs
    )


def distance(losses: Sequence[float], reference: Sequence[float]) -> float:
    """The largest distance between two courses of losses, over the steps that both have."""
    return max(abs(a - b) for a, b in zip(losses, reference, strict=False))


def _more(run: Record, name: str, counts: Sequence[int]) -> float:
    """What a peer's own count of a step is above the work's, on average over the steps.

    Nexa has no count of its own: the work's are Nexa's.
    """
    steps = zip(counts, run["steps"], strict=False)
    return float(statistics.mean(step.get(name, count) - count for count, step in steps))
