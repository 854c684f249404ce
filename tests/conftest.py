"""Fixtures every test may use: an offline machine, caches of its own, a tiny model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.hub_emulator import HubEmulator
    from tests.support.project import Finished

# huggingface_hub reads its environment once, when it is imported. The emulated Hub has no Xet.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ.pop("HF_HUB_OFFLINE", None)

# No deadline and no new random examples: a slow or an unlucky machine fails no test.
settings.register_profile("nexa", deadline=None, derandomize=True, database=None)
settings.load_profile("nexa")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's caches or session, and none reaches the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NEXA_CACHE", str(tmp_path / "nexa-cache"))
    monkeypatch.setenv("NEXA_RUNTIME", str(tmp_path / "runtime"))
    for name in ("NEXA_SCRATCH", "NEXA_DURABLE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


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


@pytest.fixture
def hub_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubEmulator]:
    """A Hub on loopback. HF_ENDPOINT names it, here and in child processes; no token is set."""
    from huggingface_hub import constants

    from tests.support.hub_emulator import HubEmulator

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-hub-token"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    with HubEmulator() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
