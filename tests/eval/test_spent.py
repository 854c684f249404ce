from __future__ import annotations

from typing import Any

import pytest

from nexa.eval.spent import MACHINE, NO_PRICE, measured, on_this_machine


def row(latency_s: float | None, new_tokens: int = 3, text: str | None = "yes") -> dict[str, Any]:
    return {"text": text, "latency_s": latency_s, "new_tokens": new_tokens}


def test_waits_are_told_by_their_median_and_the_slow_end() -> None:
    rows = [row(wait / 100) for wait in range(101)]
    spent = measured(rows, input_tokens=7, cost_usd=0.25, price_source="a list")
    assert (spent.latency_s_p50, spent.latency_s_p95) == (0.5, 0.95)
    assert (spent.requests, spent.input_tokens, spent.output_tokens) == (101, 7, 303)
    assert (spent.cost_usd, spent.price_source) == (0.25, "a list")


def test_what_never_came_is_in_no_figure() -> None:
    rows = [row(1.0), row(None, 0, None), row(None)]
    spent = measured(rows, input_tokens=None, cost_usd=None, price_source=None)
    assert (spent.requests, spent.latency_s_p50, spent.output_tokens) == (2, 1.0, 6)
    assert spent.cost_usd is None


def test_without_a_wait_none_is_told() -> None:
    spent = measured([], input_tokens=0, cost_usd=0.0, price_source=None)
    assert (spent.latency_s_p50, spent.latency_s_p95, spent.requests) == (None, None, 0)


@pytest.mark.parametrize(("price", "cost", "source"), [(3.6, 0.5, MACHINE), (0.0, 0.0, NO_PRICE)])
def test_a_local_model_costs_its_machine_s_time(price: float, cost: float, source: str) -> None:
    spent = on_this_machine([row(1.0)], input_tokens=5, wall_s=500, cost_per_hour_usd=price)
    assert (spent.cost_usd, spent.price_source) == (cost, source)
