from __future__ import annotations

import importlib.util
import math
import sys

import pytest
import torch
from torch import nn

from nexa.core.errors import MissingExtra
from nexa.train.optim import BYTES_KEPT, optimizer, require, schedule, set_rate
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


def test_wsd_stays_and_falls_over_its_last_steps_to_just_above_zero() -> None:
    got = rates(SchedulerSpec("wsd", warmup_steps=2), 10)  # 0.2 of 10 steps fall
    assert got == pytest.approx([0.05, 0.1, *[0.1] * 6, 0.2 / 3, 0.1 / 3])
    half = rates(SchedulerSpec("wsd", decay_ratio=0.5), 4)
    assert half == pytest.approx([0.1, 0.1, 0.2 / 3, 0.1 / 3])
    assert rates(SchedulerSpec("wsd", decay_ratio=0.9, warmup_steps=2), 3)[2] == pytest.approx(0.05)
    assert rates(SchedulerSpec("wsd", warmup_steps=9), 3) == pytest.approx(
        [0.1 / 9, 0.2 / 9, 0.3 / 9]
    )


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


def test_adafactor_equals_its_formula_and_moves_what_begins_at_zero() -> None:
    grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    zero = nn.Parameter(torch.zeros(6, 4))  # as B of a new adapter
    torch_optimizer = optimizer(OptimizerSpec("adafactor", lr=0.01, weight_decay=0.1), [zero])
    zero.grad = grad.clone()
    torch_optimizer.step()
    row, column = grad.square().mean(1, keepdim=True), grad.square().mean(0, keepdim=True)
    update = grad / (row * column / row.mean()).sqrt()
    update /= max(1.0, update.square().mean().sqrt().item())
    assert torch.allclose(zero.detach(), -0.01 * update, rtol=1e-5, atol=1e-8)
    assert zero.square().mean().sqrt().item() == pytest.approx(0.01, rel=0.2)  # lr is what it says


def test_lora_plus_lets_b_learn_faster_and_the_schedule_keeps_the_ratio() -> None:
    a, b, norm = (nn.Parameter(torch.ones(*shape)) for shape in ((2, 3), (3, 2), (4,)))
    names = ["x.lora_A.weight", "x.lora_B.weight", "norm.weight"]
    spec = OptimizerSpec("sgd", lr=0.1, weight_decay=0.5)
    torch_optimizer = optimizer(spec, [a, b, norm], names, 16.0)
    told = [(g["params"], g["lr"], g["weight_decay"]) for g in torch_optimizer.param_groups]
    assert told == [([a], 0.1, 0.5), ([b], pytest.approx(1.6), 0.5), ([norm], 0.1, 0.0)]
    set_rate(torch_optimizer, 0.01)
    assert [g["lr"] for g in torch_optimizer.param_groups] == pytest.approx([0.01, 0.16, 0.01])
    for parameter in (a, b, norm):
        parameter.grad = torch.ones_like(parameter)
    torch_optimizer.step()
    assert torch.allclose(a.detach(), torch.full((2, 3), 1 - 0.01 * 1.5))
    assert torch.allclose(b.detach(), torch.full((3, 2), 1 - 0.16 * 1.5))
    assert torch.allclose(norm.detach(), torch.full((4,), 0.99))
    [alone] = optimizer(spec, [a, b], names[:2]).param_groups
    assert (alone["params"], alone["lr"]) == ([a, b], 0.1)


# -- in eight bits -------------------------------------------------------------------------------

EIGHT_BIT = OptimizerSpec("adamw8bit", lr=1e-3)


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra quant is not installed"
)
def test_eight_bits_come_near_to_adamw_in_a_quarter_of_its_memory() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(128, 64, generator=generator)
    small, large = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pair = optimizer(EIGHT_BIT, [small]), optimizer(OptimizerSpec(lr=1e-3), [large])
    for _ in range(10):
        small.grad = torch.randn(128, 64, generator=generator)
        large.grad = small.grad.clone()
        for each in pair:
            each.step()
    moved = (large - start).norm()
    assert (small - large).norm() < 0.05 * moved
    state = pair[0].state[small]
    moments = [state["state1"], state["state2"]]
    assert {moment.dtype for moment in moments} == {torch.uint8}
    kept = [value for value in state.values() if isinstance(value, torch.Tensor)]
    tables = 2 * 256 * 4
    assert sum(value.nbytes for value in kept) - tables <= (BYTES_KEPT["adamw"] - 4) * 8192 / 3.9


def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    with pytest.raises(MissingExtra, match="needs the extra quant") as caught:
        optimizer(EIGHT_BIT, [nn.Parameter(torch.ones(2, 2))])
    assert "pip install nexa-compute[quant]" in str(caught.value.fix)
    assert require(OptimizerSpec("adafactor")) is None
