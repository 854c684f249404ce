"""What a user is told beside the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.events import Event, listening
from nexa.lm.resolve import ModelFiles
from nexa.train.spec import Limits, ValidationSpec
from tests.train.bigram import under_way


def bars(base: ModelFiles, folder: Path, step_s: float, **changes: Any) -> list[Event]:
    """The bar's events of three steps that take so many seconds each."""
    now = [0.0]

    def clock() -> float:
        now[0] += step_s  # every look at it is that much later
        return now[0]

    run = under_way(base, None, steps=3, clock=clock, **changes)
    run.begin(None, folder)
    events: list[Event] = []
    with listening(events.append):
        run.to_the_end()
    return [event for event in events if event["kind"] == "progress"]


def test_a_short_run_is_told_its_speed_and_memory(base: ModelFiles, tmp_path: Path) -> None:
    for bar in bars(base, tmp_path, 0.5):
        assert bar.keys() >= {"loss", "lr", "tokens_per_s", "memory_bytes"}
        assert bar["memory_bytes"] > 50e6
        assert not bar.keys() & {"limit_tokens_per_s", "cost_usd", "validation_loss"}


def test_a_clock_that_stands_still_gives_no_speed(base: ModelFiles, tmp_path: Path) -> None:
    assert all("tokens_per_s" not in bar for bar in bars(base, tmp_path, 0.0))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_long_one_also_against_the_machine_s_limit(
    base: ModelFiles, tmp_path: Path, method: str
) -> None:
    told = bars(base, tmp_path, 90.0, method=method)
    assert len({bar["limit_tokens_per_s"] for bar in told}) == 1  # measured once
    assert told[0]["limit_tokens_per_s"] > 0


def test_a_model_whose_limit_is_not_known_has_none(base: ModelFiles, tmp_path: Path) -> None:
    run = under_way(base, None, steps=3)
    run.pace.config = {**run.pace.config, "model_type": "unheard-of"}
    run.pace._ask(left_s=1e6)
    assert run.pace.limit_tokens_per_s is None


def test_cost_and_validation_loss_are_told_where_there_are_any(
    base: ModelFiles, tmp_path: Path
) -> None:
    limits = Limits(usd=1e6, usd_per_hour=3600.0)
    told = bars(base, tmp_path, 1.0, limits=limits, validation=ValidationSpec(2, every=2))
    assert ["validation_loss" in bar for bar in told] == [False, True, True]
    assert 0 < told[0]["cost_usd"] < told[2]["cost_usd"]
