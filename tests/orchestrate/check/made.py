"""A flight over a tiny project, for tests of single checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nexa.core.config import load_config
from nexa.core.store import free_bytes
from nexa.core.tiers import Tiers
from nexa.orchestrate.check.state import Flight
from tests.support.project import write_project


def flight(folder: Path, model: str | Path, **changes: dict[str, Any] | None) -> Flight:
    """The flight of a project of `write_project`, with nothing looked at yet."""
    config = write_project(folder, model, **changes)
    return Flight(load_config(config), Tiers.of(folder), free_bytes)
