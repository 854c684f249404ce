"""Tiny models of one architecture, unlike each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.lm.resolve import ModelFiles, resolve
from tests.support.tiny import write_tiny_model


@pytest.fixture(scope="session")
def three_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFiles, ...]:
    """Three random models with one tokenizer."""
    root: Path = tmp_path_factory.mktemp("parents")
    return tuple(
        resolve(str(write_tiny_model(root / name, seed=seed)))
        for seed, name in enumerate(("one", "two", "three"))
    )
