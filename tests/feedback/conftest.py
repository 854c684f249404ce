from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def notes() -> Iterable[list[str]]:
    """The notes that are said during a test."""
    heard: list[str] = []

    def hear(event: events.Event) -> None:
        if event["kind"] == "note":
            heard.append(event["text"])

    with events.listening(hear):
        yield heard
