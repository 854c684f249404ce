"""When a training ends before its last step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.train import stopping
from nexa.train.loop import StepRecord
from nexa.train.spec import EarlyStopping, Limits
from nexa.train.stopping import Watch


def records(*losses: float | None) -> list[StepRecord]:
    return [
        StepRecord(i + 1, 1, 1.0, 1e-3, 10, 5, 1.0, validation_loss=loss)
        for i, loss in enumerate(losses)
    ]


def test_the_best_step_is_the_first_of_the_lowest() -> None:
    assert stopping.best_step(records(None, 2.0, None, 1.0, 1.0, 3.0)) == 4
    assert stopping.best_step(records(None, None)) is None


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([3.0, 2.0, 2.5, 2.5], False),  # two in a row without a better one
        ([3.0, 2.0, 2.5, None, 2.1, None, 2.0], True),  # three; an equal one is not better
        ([3.0, 2.0, 2.5, 2.5, 1.9, 2.0, 2.0], False),
        ([], False),
    ],
)
def test_patience_counts_measurements_without_a_better_one(
    losses: list[float | None], ends: bool
) -> None:
    why = stopping.too_long_without(records(*losses), EarlyStopping(patience=3))
    assert (why is not None) == ends
    if why:
        assert why == "the validation loss was lowest, 2.0000, after step 2"


def test_a_gain_below_min_delta_is_none() -> None:
    slow = records(2.0, 1.99, 1.98, 1.97)
    assert stopping.too_long_without(slow, EarlyStopping(3)) is None
    assert stopping.too_long_without(slow, EarlyStopping(3, min_delta=0.1)) is not None
    assert stopping.too_long_without(slow, None) is None


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(1, 5))
def test_it_has_ended_for_good_and_never_while_it_gets_better(
    losses: list[float], patience: int
) -> None:
    rule = EarlyStopping(patience)
    better = sorted(set(losses), reverse=True)
    assert stopping.too_long_without(records(*better), rule) is None
    if stopping.too_long_without(records(*losses), rule):
        assert stopping.too_long_without(records(*losses, 99.0), rule)


def test_time_and_money_end_it_when_they_are_used_up() -> None:
    hour = Limits(seconds=3600.0)
    assert stopping.limit_reached(hour, 3599.9) is None
    assert stopping.limit_reached(hour, 3600) == "training.time_budget of 3600 s is reached"
    money = Limits(usd=0.5, usd_per_hour=2.0)
    assert stopping.limit_reached(money, 899) is None
    assert stopping.limit_reached(money, 900) == "infra.max_usd of 0.5 USD is reached"
    assert stopping.limit_reached(Limits(usd=0.5), 1e9) is None  # it costs nothing
    assert stopping.limit_reached(Limits(), 1e9) is None
    assert stopping.cost_usd(money, 1800) == 1.0


def test_a_watch_counts_what_was_spent_before_a_kill() -> None:
    now = [100.0]
    watch = Watch(lambda: now[0], before_s=50.0)
    now[0] = 107.0
    assert watch.seconds == 57.0
