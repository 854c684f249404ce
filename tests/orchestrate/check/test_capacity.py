"""What is said of memory before anything is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from nexa.core.errors import CapacityError
from nexa.orchestrate.check import capacity
from nexa.orchestrate.check.offspring import Offspring
from tests.orchestrate.check.made import flight

FACTS: dict[str, Any] = {"train_rows": 40, "tokens_a_row": 80.0}


def test_without_a_rehearsal_the_stated_model_is_told(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    made.facts |= FACTS
    told = capacity.estimated(made)
    assert told.startswith("not tried; by estimate 1.")
    assert told.endswith(" with the fused engine")
    assert made.facts["estimated_engine"] == "fused"
    assert made.facts["estimated_s"] >= 0


def test_what_the_model_says_is_more_than_the_machine_is_not_tried(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama)
    made.facts |= FACTS | {"tokens_a_row": 1e9}
    with pytest.raises(CapacityError) as caught:
        capacity.estimated(made)
    assert "GB would be needed" in str(caught.value.found)
    with pytest.raises(CapacityError):  # the child was never started: it is not asked
        capacity.probed(made, Offspring(tmp_path / "config.yaml", tmp_path))


class Child:
    """What the rehearsal's process would answer."""

    def memory(self, records: dict[str, Any], facts: dict[str, Any]) -> str:
        facts["peak_bytes"] = 7
        return "1.0 GB at the longest batch"


def test_the_rehearsal_is_asked_where_there_is_hope(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    made.facts |= FACTS
    assert capacity.probed(made, cast(Offspring, Child())) == "1.0 GB at the longest batch"
    assert made.facts["peak_bytes"] == 7
    assert made.facts["estimated_memory_bytes"] > 0
