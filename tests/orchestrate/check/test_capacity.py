"""What is said of memory before anything is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import CapacityError
from nexa.orchestrate.check import capacity
from nexa.orchestrate.check.offspring import Offspring
from tests.orchestrate.check.made import flight

FACTS: dict[str, Any] = {"train_rows": 40, "tokens_a_row": 80.0}


def test_without_a_rehearsal_the_stated_model_is_told(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    made.facts |= FACTS
    assert capacity.estimated(made).startswith("not tried; by estimate 1.8 GB of ")
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
