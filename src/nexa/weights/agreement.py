"""How far what two models say of the same texts lies apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nexa.weights.checks import Check

ROWS = 64  # at once: what is in memory besides the logits is some times this


@dataclass(frozen=True)
class Agreement:
    """Of the logits of a model against those that it should give, over all tokens."""

    kl_nats: float
    """Mean of KL(wanted || got) of the next token's distribution."""
    top1: float
    """The share of tokens after which both have the same likeliest one."""
    largest_delta: float
    """The largest difference of two logits."""
    span: float
    """From the smallest to the largest of the wanted logits."""


@dataclass(frozen=True)
class Limits:
    """How far apart two models may be that should be one."""

    kl_nats: float
    top1: float
    delta: float
    """Of one logit, as a share of the span."""


# By the type that weights were rounded to, once. Float32 sums in another order are about 1e-6;
# bfloat16 moves each weight by at most 1/256 of itself.
LIMITS = {
    "float32": Limits(1e-6, 1.0, 1e-5),
    "float16": Limits(1e-3, 0.98, 0.01),
    "bfloat16": Limits(0.05, 0.9, 0.1),
}
LOOSEST = LIMITS["bfloat16"]


def agreement_checks(got_TV: Tensor, wanted_TV: Tensor, allowed: Limits) -> Iterator[Check]:
    """Divergence, the likeliest next token, the largest difference."""
    found = agreement(got_TV, wanted_TV)
    kl, top1 = found.kl_nats, found.top1
    yield Check("kl_nats", kl <= allowed.kl_nats, kl, allowed.kl_nats)
    yield Check("top1", top1 >= allowed.top1, top1, allowed.top1)
    delta, limit = found.largest_delta, found.span * allowed.delta
    yield Check("largest_delta", delta <= limit, delta, limit)


def agreement(got_TV: Tensor, wanted_TV: Tensor) -> Agreement:
    """Compare logits `[T, V]` with those they should be; some rows at a time, in float64 sums."""
    kl, same = 0.0, 0
    deltas = []
    for got, wanted in zip(got_TV.split(ROWS), wanted_TV.split(ROWS), strict=True):
        p, q = wanted.log_softmax(-1), got.log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        same += int((got.argmax(-1) == wanted.argmax(-1)).sum())
        deltas.append((got - wanted).abs().max())
    tokens = len(wanted_TV)
    low, high = wanted_TV.aminmax()
    # What is not a number stays so, which `max` of Python's would not see to.
    return Agreement(
        kl / tokens, same / tokens, float(torch.stack(deltas).max()), float(high - low)
    )
