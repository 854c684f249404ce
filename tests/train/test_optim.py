from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nexa.train.optim import optimizer, schedule
from nexa.train.spec import OptimizerSpec, SchedulerSpec


def rates(spec: SchedulerSpec, total: int) -> list[float]:
    rate = schedule(spec, lr=0.1, total_steps=total)
    return [rate(i) for i in range(total)]


def test_linear_falls_by_equal_amounts_to_just_above_zero() -> None:
    assert rates(SchedulerSpec("linear"), 4) == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_cosine_falls_along_half_a_wave() -> None:
    expected = [0.05 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert rates(SchedulerSpec("cosine"), 4) == pytest.approx(expected)


def test_constant_stays() -> None:
    assert rates(SchedulerSpec("constant"), 3) == [0.1] * 3


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_warm_up_rises_to_the_peak_and_wastes_no_step(name: str) -> None:
    got = rates(SchedulerSpec(name, warmup_steps=4), 10)  # type: ignore[arg-type]
    assert got[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert got[0] > 0


def test_a_run_that_is_all_warm_up_has_a_rate() -> None:
    assert rates(SchedulerSpec("linear", warmup_steps=5), 3) == pytest.approx([0.02, 0.04, 0.06])


def test_adamw_equals_its_formula() -> None:
    weight = nn.Parameter(torch.tensor([[0.5, -0.25]]))
    spec = OptimizerSpec(lr=0.1, weight_decay=0.01, betas=(0.8, 0.9))
    torch_optimizer = optimizer(spec, [weight])
    grad = torch.tensor([[0.3, -0.6]])
    weight.grad = grad.clone()
    before = weight.detach().clone()
    torch_optimizer.step()
    mean, square = 0.2 * grad / (1 - 0.8), 0.1 * grad**2 / (1 - 0.9)
    expected = before * (1 - 0.1 * 0.01) - 0.1 * mean / (square.sqrt() + 1e-8)
    assert torch.allclose(weight.detach(), expected, atol=1e-6)


def test_sgd_equals_its_formula_and_vectors_do_not_decay() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    torch_optimizer = optimizer(OptimizerSpec("sgd", lr=0.5, weight_decay=0.1), [matrix, vector])
    for parameter in (matrix, vector):
        parameter.grad = torch.ones_like(parameter)
    torch_optimizer.step()
    assert torch.allclose(matrix.detach(), torch.full((2, 2), 1 - 0.5 * 1.1))
    assert torch.allclose(vector.detach(), torch.full((2,), 0.5))


def test_the_optimizer_holds_what_it_was_given() -> None:
    vector = nn.Parameter(torch.ones(2))
    groups = optimizer(OptimizerSpec(), [vector]).param_groups
    assert [group["params"] for group in groups] == [[vector]]
