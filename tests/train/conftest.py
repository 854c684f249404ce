"""Fixtures of trainings on the tiny model."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.load import release
from nexa.lm.resolve import ModelFiles, resolve
from tests.train.sample import conversation, dataset


@pytest.fixture(scope="module")
def base(tiny_llama: Path) -> Iterator[ModelFiles]:
    yield resolve(str(tiny_llama))
    release()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def rows(store: Store, tmp_path: Path) -> Artifact[DatasetBody]:
    return dataset(store, tmp_path, [conversation(i) for i in range(10)], max_length=128)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
