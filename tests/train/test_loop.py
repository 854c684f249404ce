from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nexa.core.errors import TrainingError
from nexa.lm.adapters import LoraSpec, attach
from nexa.train.accumulate import Accumulation
from nexa.train.batches import Cut, Step, TokenRow, lay, steps
from nexa.train.generic import generic
from nexa.train.loop import StepRecord, train
from tests.support.tiny import tiny_model
from tests.train.bigram import Bigram
from tests.train.sample import random_rows


def run(executor: Bigram, plan: Iterable[Step], *, clip: float = 0.0) -> list[StepRecord]:
    optimizer = torch.optim.SGD(executor.adapters(), lr=1.0)
    return list(
        train(
            executor,
            plan,
            optimizer,
            lambda i: 1 / (i + 1),
            accumulate=Accumulation(Cut(4096)),
            max_grad_norm=clip,
            seed=0,
        )
    )


ROWS = random_rows(8)


def cut(rows: list[TokenRow], size: int) -> Step:
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return Step(0, 0, tuple(lay(part) for part in parts), len(rows))


def test_eight_rows_at_once_are_the_same_step_as_eight_times_one() -> None:
    at_once, one_by_one = Bigram(), Bigram()
    (a,) = run(at_once, [cut(ROWS, 8)])
    (b,) = run(one_by_one, [cut(ROWS, 1)])
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-5)
    assert torch.allclose(at_once.table, one_by_one.table, atol=1e-6)


def test_the_loss_is_over_label_tokens_and_from_before_the_update() -> None:
    (record,) = run(Bigram(), [cut(ROWS, 3)])
    assert record.loss == pytest.approx(math.log(300), rel=1e-6)
    assert record.label_tokens == sum(row.labels for row in ROWS)
    assert record.tokens == sum(len(row.ids) for row in ROWS)
    assert (record.step, record.epoch, record.lr) == (1, 1, 1.0)


def test_the_schedule_sets_each_steps_rate_and_the_loss_falls() -> None:
    plan = steps(ROWS, rows_per_step=8, total_steps=5, micro_tokens=4096, seed=0)
    records = run(Bigram(), plan)
    assert [record.lr for record in records] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    losses = [record.loss for record in records]
    assert losses == sorted(losses, reverse=True)


def test_gradients_are_clipped_to_the_norm_that_is_asked_for() -> None:
    executor = Bigram()
    (record,) = run(executor, [cut(ROWS, 8)], clip=0.01)
    assert record.grad_norm > 0.01  # told as it was
    assert executor.table.norm().item() == pytest.approx(0.01, rel=1e-3)  # lr 1, from zero


def test_a_guard_stops_before_the_weights_move() -> None:
    executor = Bigram()
    with torch.no_grad():
        executor.table.fill_(math.nan)
    with pytest.raises(TrainingError, match="not a number"):
        run(executor, [cut(ROWS, 8)])
    zero = Bigram()
    nothing = TokenRow("x", [5], [True])
    with pytest.raises((TrainingError, ZeroDivisionError)):
        run(zero, [cut([nothing], 1)])
    assert not zero.table.any()


def trained(*, dropout: float, batch_size: int, micro_tokens: int = 4096) -> list[Tensor]:
    """The adapter after three steps on a real model, in float32."""
    model = tiny_model()
    lora = attach(model, LoraSpec(4, 8.0, dropout), seed=0)
    optimizer = torch.optim.SGD(lora.parameters, lr=0.5)
    plan = steps(ROWS, rows_per_step=batch_size, total_steps=3, micro_tokens=micro_tokens, seed=0)
    with generic(model, lora, ROWS) as executor:
        loop = train(
            executor,
            plan,
            optimizer,
            lambda _: 0.5,
            accumulate=Accumulation(Cut(micro_tokens)),
            max_grad_norm=1.0,
            seed=5,
        )
        list(loop)
    return [p.detach() for p in lora.parameters]


def test_what_is_written_of_a_step_is_the_same_on_every_machine() -> None:
    record = StepRecord(3, 1, 0.5, 1e-3, 100, 40, 0.9, seconds=1.25)
    names = [*("step", "epoch", "loss", "lr", "tokens", "label_tokens", "grad_norm")]
    assert list(record.told()) == names
    more = replace(record, validation_loss=0.75, rolled_back=2).told()
    assert (more["validation_loss"], more["rolled_back"]) == (0.75, 2)
    assert len(more) == len(names) + 2


def test_micro_tokens_never_change_the_result() -> None:
    large = trained(dropout=0.0, batch_size=4)
    small = trained(dropout=0.0, batch_size=4, micro_tokens=40)
    for a, b in zip(small, large, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_dropout_is_a_function_of_seed_and_step() -> None:
    first = trained(dropout=0.5, batch_size=4)
    torch.manual_seed(12345)
    again = trained(dropout=0.5, batch_size=4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
