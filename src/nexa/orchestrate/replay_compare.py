"""How far a replayed training is from the one it repeats: bits, losses step by step, metrics.

On a processor equal choices give equal bytes, and nothing else counts. On a GPU they do not: there
a metric's distance is held against what another seed alone would have made of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from nexa.core.manifest import RunManifest

FIRST = ("torch", "transformers")  # of the libraries: what most often changes the last bit
# Of `resolved.json`: what decides how numbers are computed; the rest is reasons and counts.
CHOICES = (
    *("device", "precision", "threads", "executor", "layout", "head", "attention", "kernels"),
    *("prefix", "micro_tokens", "halvings"),
)


@dataclass(frozen=True)
class LossDistance:
    """The losses of two trainings, step by step."""

    steps: int  # that both have
    steps_then: int
    steps_now: int
    largest: float  # nats a label token
    at_step: int | None  # where it is that large; None: they are equal
    first_step: int | None  # the first at which they differ


@dataclass(frozen=True)
class MetricDistance:
    """One metric of two trainings by the same seed, and what other seeds make of it."""

    metric: str
    then: float
    now: float
    other_seeds: tuple[float, ...]
    allowed: float  # how far two trainings by unlike seeds are apart in 95 % of cases

    @property
    def within(self) -> bool:
        """Whether the two are no farther apart than seeds alone would set them."""
        return abs(self.now - self.then) <= self.allowed


def loss_distance(
    then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> LossDistance:
    """Compare the records of two `losses.jsonl`, in their order."""
    pairs = list(zip(then, now, strict=False))
    apart = {int(a["step"]): _apart(a["loss"], b["loss"]) for a, b in pairs}
    unequal = [step for step, distance in apart.items() if distance > 0]
    largest = max(unequal, key=lambda step: apart[step], default=None)
    return LossDistance(
        steps=len(pairs),
        steps_then=len(then),
        steps_now=len(now),
        largest=apart[largest] if largest is not None else 0.0,
        at_step=largest,
        first_step=unequal[0] if unequal else None,
    )


def metric_distance(
    metric: str, then: float, now: float, other_seeds: Sequence[float]
) -> MetricDistance:
    """Hold a metric's distance against its spread over seeds, which are two at least.

    With n values of standard deviation s, the difference of two further ones lies within
    t(0.975, n - 1) * s * sqrt(2) in 95 % of cases, for values from one normal distribution.
    """
    spread = float(np.std(other_seeds, ddof=1))
    allowed = float(stdtrit(len(other_seeds) - 1, 0.975)) * spread * math.sqrt(2)
    return MetricDistance(metric, then, now, tuple(other_seeds), allowed)


def differences(then: RunManifest, now: RunManifest) -> tuple[str, ...]:
    """What equal bytes may hang on and is not what it was: Nexa, libraries, machine."""
    lines = _told("nexa", then.nexa_version, now.nexa_version)
    if not lines and then.code_digest != now.code_digest:
        lines.append("nexa: the same version, but its source files have changed")
    names = {*then.versions, *now.versions}
    for name in sorted(names, key=lambda name: (name not in FIRST, name)):
        lines += _told(name, then.versions.get(name), now.versions.get(name))
    for key, label in (("cpu", "processor"), ("gpus", "GPUs"), ("system", "system")):
        lines += _told(label, _plain(then.machine.get(key)), _plain(now.machine.get(key)))
    return tuple(lines)


def choices_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Automatic choices (`resolved.json`) that came out otherwise."""
    lines = [line for name in CHOICES for line in _told(name, then.get(name), now.get(name))]
    return tuple(line.replace("_", " ") for line in lines)


def losses(data: bytes) -> list[dict[str, Any]]:
    """The records of a `losses.jsonl`."""
    return [json.loads(line) for line in data.splitlines() if line.strip()]


def _apart(then: float, now: float) -> float:
    """The distance of two losses; of a number from none, infinite."""
    distance = abs(float(then) - float(now))
    return distance if not math.isnan(distance) else math.inf


def _told(name: str, then: object, now: object) -> list[str]:
    return [] if then == now else [f"{name}: {_word(then)} then, {_word(now)} now"]


def _word(value: object) -> str:
    return "none" if value in (None, "", ()) else str(value)


def _plain(value: object) -> object:
    """A list as text, however JSON gave it back."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
