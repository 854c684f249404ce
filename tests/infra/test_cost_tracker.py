"""What a run cost: metered time at a named price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.manifest import Cost
from nexa.infra.cost_tracker import cost_of

START = datetime(2025, 10, 28, 14, 12, tzinfo=UTC)


def cost(**changes: Any) -> Cost:
    fields: dict[str, Any] = {
        "gpu_type": None,
        "provider": "local",
        "cost_per_hour_usd": 0.0,
        "tokens": 75_000,
        "gain": 0.5,
    }
    return cost_of(START, START + timedelta(minutes=90), **{**fields, **changes})


def test_ones_own_machine_costs_nothing_and_says_who_said_so() -> None:
    free = cost()
    assert (free.cost_total_usd, free.usd_per_point) == (0.0, 0.0)
    assert free.price_source == "none given: the local machine counts as 0"


def test_a_price_is_metered_over_the_time_and_spread_over_the_points_gained() -> None:
    paid = cost(cost_per_hour_usd=2.0, gpu_type="A100x4", provider="ssh")
    assert paid.cost_total_usd == 3.0
    assert paid.usd_per_point == pytest.approx(3.0 / 50)
    assert paid.price_source == "config.yaml, infra.cost_per_hour_usd"
    assert (paid.gpu_type, paid.provider, paid.tokens) == ("A100x4", "ssh", 75_000)


def test_times_are_iso_with_their_zone() -> None:
    assert (cost().start_time, cost().end_time) == (
        "2025-10-28T14:12:00+00:00",
        "2025-10-28T15:42:00+00:00",
    )


@pytest.mark.parametrize("gain", [None, 0.0, -0.1])
def test_without_a_gain_there_is_no_price_of_one(gain: float | None) -> None:
    assert cost(cost_per_hour_usd=2.0, gain=gain).usd_per_point is None


@given(hours=st.floats(0, 1000), price=st.floats(0, 100), gain=st.floats(0.001, 1))
def test_total_and_price_of_a_point_agree_with_the_slow_way(
    hours: float, price: float, gain: float
) -> None:
    seconds = round(hours * 3600)
    made = cost_of(
        START,
        START + timedelta(seconds=seconds),
        gpu_type=None,
        provider="local",
        cost_per_hour_usd=price,
        tokens=1,
        gain=gain,
    )
    slow = sum(seconds * price / 3600 for _ in range(10)) / 10
    assert made.cost_total_usd == pytest.approx(slow, abs=1e-6)
    assert made.usd_per_point == pytest.approx(slow / gain / 100, abs=1e-5, rel=1e-6)
