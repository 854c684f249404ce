"""An entry of the leaderboard to change, for tests."""

from __future__ import annotations

from nexa.ui.leaderboard import Entry

ENTRY = Entry(
    created="2026-01-02T03:08:05+00:00",
    run_id="2026-01-02-030405-abcd",
    role="tuned",
    model="tiny",
    model_digest="a" * 64,
    base_model="base",
    suite="elements@v1",
    seal="5" * 64,
    metric="exact",
    primary=True,
    mean=0.5,
    low=0.25,
    high=0.75,
    rows=12,
    groups=6,
    verdict="improved",
    tokens_trained=4000,
    cost_usd=0.25,
)
