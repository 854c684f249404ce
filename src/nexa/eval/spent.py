"""What answers took, measured: latency, tokens, dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nexa.core.records import Spent

NO_PRICE = "none given: the local machine counts as 0"
MACHINE = "config.yaml, infra.cost_per_hour_usd"
MEDIAN, SLOW = 50, 95


def measured(
    rows: Sequence[Mapping[str, Any]],
    *,
    input_tokens: int | None,
    cost_usd: float | None,
    price_source: str | None,
) -> Spent:
    """What the rows of an `answers.jsonl` took; rows without an answer took nothing that counts."""
    given = [row for row in rows if row["text"] is not None]
    waits_s = [row["latency_s"] for row in given if row["latency_s"] is not None]
    median_s, slow_s = np.percentile(waits_s, [MEDIAN, SLOW]) if waits_s else (None, None)
    return Spent(
        requests=len(given),
        latency_s_p50=None if median_s is None else round(float(median_s), 3),
        latency_s_p95=None if slow_s is None else round(float(slow_s), 3),
        input_tokens=input_tokens,
        output_tokens=sum(row["new_tokens"] for row in given),
        cost_usd=None if cost_usd is None else round(cost_usd, 9),
        price_source=price_source,
    )


def on_this_machine(
    rows: Sequence[Mapping[str, Any]],
    *,
    input_tokens: int,
    wall_s: float,
    cost_per_hour_usd: float,
) -> Spent:
    """What a local model's answers took: the machine's price for as long as they were made."""
    return measured(
        rows,
        input_tokens=input_tokens,
        cost_usd=wall_s / 3600 * cost_per_hour_usd,
        price_source=MACHINE if cost_per_hour_usd else NO_PRICE,
    )
