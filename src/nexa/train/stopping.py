"""When a training ends before its last step, and which of its weights are the best.

By the loss on validation rows both are functions of the records alone, so a resumed run decides as
an unbroken one. Time and money are counted over all parts of a run; what is written of them is that
they ended it, and where.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nexa.train.loop import StepRecord
from nexa.train.spec import EarlyStopping, Limits

Clock = Callable[[], float]  # seconds since some moment, as `time.monotonic`
HOUR_S = 3600


@dataclass
class Watch:
    """Seconds that a run has taken, those before a kill included."""

    clock: Clock = time.monotonic
    before_s: float = 0.0  # by the parts of the run that ended before this one
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def seconds(self) -> float:
        """As it stands now."""
        return self.before_s + self.clock() - self.began


def best_step(records: Sequence[StepRecord]) -> int | None:
    """The step after which the validation loss was the lowest; of equal ones the first."""
    measured = [(r.validation_loss, r.step) for r in records if r.validation_loss is not None]
    return min(measured)[1] if measured else None


def too_long_without(records: Sequence[StepRecord], rule: EarlyStopping | None) -> str | None:
    """Why early stopping ends the training here, or None.

    It does after `patience` measurements in a row none of which was better by `min_delta` than the
    best before it: Prechelt 1998, "Early stopping - but when?".
    """
    if rule is None:
        return None
    best, best_at, waited = float("inf"), 0, 0
    for record in records:
        loss = record.validation_loss
        if loss is None:
            continue
        if loss < best - rule.min_delta:
            best, best_at, waited = loss, record.step, 0
        else:
            waited += 1
    if waited < rule.patience:
        return None
    return f"the validation loss was lowest, {best:.4f}, after step {best_at}"


def limit_reached(limits: Limits, seconds: float) -> str | None:
    """Which limit so many seconds have reached, or None."""
    if limits.seconds is not None and seconds >= limits.seconds:
        return f"training.time_budget of {limits.seconds:g} s is reached"
    if limits.usd is not None and cost_usd(limits, seconds) >= limits.usd:
        return f"infra.max_usd of {limits.usd:g} USD is reached"
    return None


def cost_usd(limits: Limits, seconds: float) -> float:
    """What so many seconds cost."""
    return seconds / HOUR_S * limits.usd_per_hour
