from __future__ import annotations

import math

import pytest
import torch

from nexa.weights.agreement import LIMITS, ROWS, agreement, agreement_checks


def test_divergence_is_the_sum_over_all_next_tokens_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    got, wanted = (torch.randn(ROWS + 9, 7, generator=generator) for _ in "12")

    found = agreement(got, wanted)

    slow = 0.0
    for row in range(len(got)):
        p = [math.exp(float(x)) for x in wanted[row]]
        q = [math.exp(float(x)) for x in got[row]]
        slow += sum(
            a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True)
        )
    assert found.kl_nats == pytest.approx(slow / len(got), rel=1e-5)
    same = [int(got[i].argmax()) == int(wanted[i].argmax()) for i in range(len(got))]
    assert found.top1 == sum(same) / len(same)
    assert found.largest_delta == float((got - wanted).abs().max())
    assert found.span == float(wanted.max() - wanted.min())


def test_equal_logits_agree() -> None:
    logits = torch.randn(3, 5)

    assert all(check.passed for check in agreement_checks(logits, logits, LIMITS["float32"]))


def test_one_logit_that_is_no_number_fails_what_it_touches() -> None:
    wanted = torch.randn(ROWS + 3, 5)
    got = wanted.clone()
    got[1, 2] = torch.nan

    checks = {c.name: c.passed for c in agreement_checks(got, wanted, LIMITS["bfloat16"])}

    assert not checks["kl_nats"]
    assert not checks["largest_delta"]
