from __future__ import annotations

import pytest

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.lm.answers import REPORT_EVERY_STEPS, Generation, Pace, require_room


def test_the_stop_token_counts_among_the_new_ones() -> None:
    assert Generation([5, 6], stopped=True, latency_s=0.1).new_tokens == 3
    assert Generation([5, 6], stopped=False, latency_s=0.1).new_tokens == 2


def test_rows_that_ended_and_the_parts_of_others_add_up() -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append), events.progress("answering", 2, "rows") as bar:
        pace = Pace(bar, max_new_tokens=16)
        pace.ended(Generation([5] * 4, stopped=False, latency_s=0.1))
        for step in range(REPORT_EVERY_STEPS):
            pace.stepped([[7] * (step + 1)])
        pace.ended(Generation([7] * 15, stopped=True, latency_s=0.1))
    told = [event for event in heard if event["kind"] == "progress"]
    assert [event["done"] for event in told] == [1.5, 2]
    assert all(event["tokens_per_s"] > 0 for event in told)


def test_a_model_that_tells_of_no_positions_has_room_for_everything() -> None:
    require_room("m", None, [[5] * 10_000], 10_000)
    require_room("m", 12, [[5] * 8], 4)
    with pytest.raises(ModelError, match=r"9 \+ 4 tokens, m has room for 12"):
        require_room("m", 12, [[5] * 8, [5] * 9], 4)
