"""Teachers as users name them: opened with a key, or without one where nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import AccessError
from nexa.lm.client import Price
from nexa.orchestrate.teaching import NO_KEY, Choice, open_teacher


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_teacher_that_is_asked_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="OPENAI_API_KEY"):
        open_teacher(Choice("gpt-4o"), tmp_path)


def test_an_estimate_needs_none(tmp_path: Path) -> None:
    teacher = open_teacher(Choice("gpt-4o"), tmp_path, asks=False)
    assert teacher.name == "gpt-4o"
    assert teacher.identity["model"] == "gpt-4o"
    assert teacher.model.price is not None
    assert NO_KEY not in str(teacher)


def test_the_pace_is_the_user_s(tmp_path: Path) -> None:
    choice = Choice(
        "wise",
        base_url="http://127.0.0.1:1/v1",
        price=Price(1, 2, source="me"),
        budget_usd=3,
        concurrency=4,
        per_minute=5,
    )
    pace = open_teacher(choice, tmp_path).pace
    assert (pace.budget_usd, pace.concurrency, pace.per_minute) == (3, 4, 5)
