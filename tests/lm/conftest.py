"""Fixtures for finding and loading models: a Hub cache and an empty process of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants


@pytest.fixture
def use_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point huggingface_hub to a Hub, or to none; its cache is the test's own."""
    # huggingface_hub reads its environment once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))

    def use(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not endpoint)
        monkeypatch.setenv("HF_ENDPOINT", endpoint)

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-hub-token"))
    use("")
    return use


@pytest.fixture
def unloaded() -> Iterator[None]:
    """No model of another test is loaded, and none of this one stays."""
    from nexa.lm import load

    load.release()
    yield
    load.release()
