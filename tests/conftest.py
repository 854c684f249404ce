"""Fixtures every test may use: an offline machine, caches of its own, a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.project import Finished

# No deadline and no new random examples: a slow or an unlucky machine fails no test.
settings.register_profile("nexa", deadline=None, derandomize=True, database=None)
settings.load_profile("nexa")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's caches, and none reaches the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NEXA_CACHE", str(tmp_path / "nexa-cache"))
    monkeypatch.delenv("NEXA_SCRATCH", raising=False)
    monkeypatch.delenv("NEXA_DURABLE", raising=False)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a ChatML tokenizer. Read only."""
    from tests.support.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Finished:
    """A project in which `nexa train` has run once. Read only; `finished.copy` is for changes."""
    from tests.support.project import finish

    with pytest.MonkeyPatch.context() as environment:
        for name in ("NEXA_SCRATCH", "NEXA_DURABLE"):
            environment.delenv(name, raising=False)
        return finish(tmp_path_factory.mktemp("finished") / "elements", tiny_llama)


@pytest.fixture
def project(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """A copy of the finished project to change, as the current folder."""
    copied = finished.copy(tmp_path / "elements")
    monkeypatch.chdir(copied.root)
    return copied
