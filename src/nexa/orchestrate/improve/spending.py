"""What a pass has cost until now, whatever became of its runs, and whether a step still fits.

The machine's time is read off the runs' logs, which a killed run has as well: from its first event
to its last. A teacher's dollars are read off its journals, answers that came too late among them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import BudgetSpent
from nexa.core.events import read_events
from nexa.core.manifest import list_manifests
from nexa.core.tiers import Tiers
from nexa.lm.journal import read_journal
from nexa.orchestrate.improve.book import STAMP, Book

TYPES = ("train", "improve")  # of the runs that a pass consists of
HOUR_S = 3600.0


@dataclass(frozen=True)
class Budget:
    """The dollars of a pass. `limit_usd` None: as many as it takes."""

    tiers: Tiers
    book: Book
    config_sha256: str
    per_hour_usd: float
    limit_usd: float | None

    def spent_usd(self) -> float:
        """Of all runs of the pass, one that is under way until now, and of its teachers."""
        return round(self.machine_s() / HOUR_S * self.per_hour_usd + self.teachers_usd(), 9)

    def machine_s(self) -> float:
        """Seconds that the machine worked for this pass."""
        since = self.book.now
        seconds = 0.0
        for run in list_manifests(self.tiers.manifests):
            mine = run.run_type in TYPES and run.config_sha256 == self.config_sha256
            if mine and run.run_id[:STAMP] >= since.begun:
                begin, end = _span(self.tiers.logs / f"{run.run_id}.jsonl")
                end = time.time() if run.status == "running" else end
                seconds += end - begin if begin >= since.began_at else 0.0
        return seconds

    def teachers_usd(self) -> float:
        """What teachers were paid, or may have been, since the pass began."""
        return paid_usd(self.tiers, self.book.now.journals)

    def left_usd(self) -> float | None:
        """What may still be spent."""
        return None if self.limit_usd is None else max(0.0, self.limit_usd - self.spent_usd())

    def require(self, what: str, usd: float = 0.0) -> None:
        """Refuse a step that what is left does not reach for; `usd` is what it may cost.

        Raises:
            BudgetSpent: it does not.
        """
        if self.limit_usd is None:
            return
        spent = self.spent_usd()
        if spent + usd > self.limit_usd or spent >= self.limit_usd:
            needs = f", and {what} may cost {usd:.4f}" if usd else ""
            raise BudgetSpent(
                f"the budget of {self.limit_usd:g} USD does not reach for {what}",
                found=f"{spent:.4f} USD are spent{needs}",
                fix="the same command with a larger --budget-usd goes on: nothing is paid twice",
            )


def paid_usd(tiers: Tiers, journals: Mapping[str, float]) -> float:
    """Dollars in these journals beyond what was in them before.

    Raises:
        IntegrityError: one cannot be read.
    """
    return sum(
        max(0.0, read_journal(tiers.requests / name).spent_usd - before)
        for name, before in journals.items()
    )


def seconds_of(log: Path) -> float:
    """How long a run worked, by its log: from its first event to its last."""
    begin, end = _span(log)
    return end - begin


def _span(log: Path) -> tuple[float, float]:
    """When a run's first and last events were, in seconds; of a log without events at no time."""
    times = [float(event["t"]) for event in read_events(log)] if log.exists() else []
    return (times[0], times[-1]) if times else (0.0, 0.0)
