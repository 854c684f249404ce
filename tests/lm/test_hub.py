from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import ModelError, NetworkError, StorageError
from nexa.core.events import Event
from nexa.lm import hub
from tests.lm.hub_server import COMMIT, hub_of
from tests.support.tiny import write_tiny_model

UseHub = Callable[[str], None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model on the Hub, with things in it that are nobody's business here."""
    folder = write_tiny_model(tmp_path / "on-the-hub")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "model.py").write_text("code")
    (folder / "README.md").write_text("words")
    return folder


def test_only_config_tokenizer_and_safetensors_are_fetched(model: Path, use_hub: UseHub) -> None:
    heard: list[Event] = []
    with hub_of({"org/name": model}) as endpoint, events.listening(heard.append):
        use_hub(endpoint)
        assert hub.cached("org/name") is None
        folder = hub.fetch("org/name")
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    for path in folder.iterdir():
        assert path.read_bytes() == (model / path.name).read_bytes()
    assert hub.cached("org/name") == folder
    kinds = [event["kind"] for event in heard]
    assert (kinds[0], kinds[-1]) == ("progress.start", "progress.end")
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert heard[-1]["done"] == pytest.approx(size_mb)
    assert heard[-1]["task"] == "downloading org/name"


def test_code_is_fetched_only_for_who_trusts_it(model: Path, use_hub: UseHub) -> None:
    with hub_of({"org/name": model}) as endpoint:
        use_hub(endpoint)
        assert (hub.fetch("org/name", code=True) / "model.py").is_file()


def test_a_cached_model_is_taken_without_the_hub_and_that_is_told(
    model: Path, use_hub: UseHub
) -> None:
    with hub_of({"org/name": model}) as endpoint:
        use_hub(endpoint)
        folder = hub.fetch("org/name")
        heard: list[Event] = []
        with events.listening(heard.append):
            assert hub.fetch("org/name") == folder
        assert heard == []  # the Hub has said that it is still the newest
    for offline in ("", "http://127.0.0.1:9"):
        use_hub(offline)
        with events.listening(heard.append):
            assert hub.fetch("org/name") == folder
        assert COMMIT[:12] in heard.pop()["text"]


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(
    use_hub: UseHub, endpoint: str
) -> None:
    use_hub(endpoint)
    with pytest.raises(NetworkError, match="run once where the Hub can be reached"):
        hub.fetch("org/name")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "no model org/name"),
        (403, "GatedRepo", "is gated"),
        (404, "RevisionNotFound", "no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(
    use_hub: UseHub, status: int, code: str, said: str
) -> None:
    with hub_of({"org/name": (status, code)}) as endpoint:
        use_hub(endpoint)
        with pytest.raises(ModelError, match=said):
            hub.fetch("org/name", revision="v9")


def test_a_word_that_is_no_id_is_refused(use_hub: UseHub) -> None:
    with pytest.raises(ModelError, match="not a Hub id"):
        hub.fetch("org/na--me")


def test_a_snapshot_without_weights_is_not_a_cached_model(model: Path, use_hub: UseHub) -> None:
    with hub_of({"org/name": model}) as endpoint:
        use_hub(endpoint)
        folder = hub.fetch("org/name")
    (folder / "model.safetensors").unlink()
    (folder.parent.parent / "trees" / f"{COMMIT}.json").unlink()
    assert hub.cached("org/name") is None


def test_a_cache_that_cannot_be_written_is_a_storage_error(
    model: Path, use_hub: UseHub, tmp_path: Path
) -> None:
    (tmp_path / "hub-cache").write_text("a file where the cache should be")
    with hub_of({"org/name": model}) as endpoint:
        use_hub(endpoint)
        with pytest.raises(StorageError, match="hub-cache"):
            hub.fetch("org/name")
