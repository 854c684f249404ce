"""What tests of the data layer share: a model to measure with, a store, files of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from nexa.core import events
from nexa.core.store import Store
from nexa.lm.resolve import ModelFiles, resolve

WriteRows = Callable[..., Path]


@pytest.fixture(scope="session")
def model(tiny_llama: Path) -> ModelFiles:
    """The tiny model's files: 512 positions, a ChatML template."""
    return resolve(str(tiny_llama))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write objects (or raw lines) as JSON lines and return the file."""

    def write(rows: Iterable[Any], name: str = "rows.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def notes() -> Iterable[list[str]]:
    """The notes that are said during a test."""
    heard: list[str] = []

    def hear(event: events.Event) -> None:
        if event["kind"] == "note":
            heard.append(event["text"])

    with events.listening(hear):
        yield heard
