"""A loss that runs away is seen; ordinary noise never is."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.train import spikes
from nexa.train.spikes import LEAST, STREAK, Astray, Rollback

losses_of = st.lists(st.floats(0, 12, allow_nan=False), min_size=1, max_size=80)


def noisy(steps: int, seed: int) -> list[float]:
    """As SmolLM2 on GSM8K with few rows a step: 1.2 at first, then anything from 0.85 to 1.35."""
    rng = random.Random(seed)
    return [1.2 * math.exp(-i / 40) * 0.1 + rng.uniform(0.85, 1.35) for i in range(steps)]


def seen_at(losses: list[float]) -> int | None:
    """The first step after which the check raises."""
    for step in range(1, len(losses) + 1):
        try:
            spikes.check_losses(losses[:step])
        except Astray:
            return step
    return None


@pytest.mark.parametrize("seed", range(40))
def test_ordinary_noise_is_no_spike(seed: int) -> None:
    assert seen_at(noisy(300, seed)) is None


@pytest.mark.parametrize("seed", range(20))
def test_neither_are_rows_of_unlike_difficulty_one_at_a_time(seed: int) -> None:
    rng = random.Random(seed)
    mixed = [rng.choice((0.05, 0.05, 0.4, 3.0)) * rng.uniform(0.8, 1.2) for _ in range(300)]
    heavy = [math.exp(rng.gauss(0, 1)) for _ in range(300)]
    assert seen_at(mixed) is None
    assert seen_at(heavy) is None


@given(st.floats(0.01, 20), st.floats(0, 0.99), st.randoms(use_true_random=False))
def test_a_loss_that_falls_with_noise_of_its_own_size_is_no_spike(
    start: float, noise: float, rng: random.Random
) -> None:
    falling = [start * math.exp(-i / 20) * rng.uniform(1 - noise, 1) for i in range(100)]
    assert seen_at(falling) is None


@given(losses_of)
def test_below_the_highest_of_the_window_nothing_is_high(losses: list[float]) -> None:
    limit = spikes.highest_ordinary(losses)
    assert limit >= max(losses)
    assert limit >= sorted(losses)[len(losses) // 2 - (len(losses) % 2 == 0)] + spikes.NATS


@given(losses_of, st.lists(st.floats(0, 100), max_size=6))
def test_it_is_a_function_of_the_losses_and_looks_no_further_back(
    losses: list[float], more: list[float]
) -> None:
    far = [50.0] * 5 + losses * 3
    recent = far[-(spikes.WINDOW + STREAK) :]
    assert spikes.high_losses([*far, *more][-200:]) == spikes.high_losses([*far, *more])
    if len(recent) == spikes.WINDOW + STREAK:
        assert spikes.high_losses(recent) == spikes.high_losses([9.0, *recent])


@pytest.mark.parametrize("seed", range(10))
def test_a_loss_that_stays_high_is_seen_at_its_fourth_step(seed: int) -> None:
    losses = noisy(60, seed)
    away = [*losses, 4.0, 7.0, 6.5, 8.0, 9.0]
    assert seen_at(away) == 60 + STREAK
    with pytest.raises(Astray, match="run away") as caught:
        spikes.check_losses(away[: 60 + STREAK])
    assert str(caught.value.found).startswith("loss 4 and more for 4 steps, 1.")


def test_one_odd_batch_or_three_are_let_pass() -> None:
    losses = noisy(40, 1)
    for odd in ([50.0], [50.0] * 2, [50.0] * (STREAK - 1)):
        assert seen_at([*losses, *odd, *losses]) is None
        assert spikes.high_losses([*losses, *odd]) == len(odd)


def test_a_few_steps_say_nothing_yet() -> None:
    assert seen_at([1.0] * (LEAST - 1) + [99.0] * (STREAK)) is None
    assert seen_at([1.0] * LEAST + [99.0] * STREAK) == LEAST + STREAK


def test_good_is_what_the_loss_of_the_next_step_speaks_for() -> None:
    losses = noisy(40, 2)
    assert spikes.last_good(losses) == 39
    assert spikes.last_good([*losses, 50.0, 50.0]) == 39
    assert spikes.last_good([]) == -1


def test_every_return_halves_the_rate_and_is_told_in_a_line() -> None:
    assert [spikes.rate_factor(n) for n in range(4)] == [1, 0.5, 0.25, 0.125]
    told = str(Rollback(34, 28, "loss 15 and more for 4 steps, 4.1 before"))
    assert told.startswith("after step 34: loss 15")
    assert told.endswith("back to step 28, at half the rate")
