from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import AccessError, DataError, ModelError, NetworkError, StorageError
from nexa.core.events import Event
from nexa.lm import hub
from tests.support.hub_emulator import HubEmulator
from tests.support.tiny import write_tiny_model

UseHub = Callable[[str], None]
TOKEN = "hf_" + "t" * 34
OUT_OF_REACH = "http://127.0.0.1:9"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model on the Hub, with things in it that are nobody's business here."""
    folder = write_tiny_model(tmp_path / "on-the-hub")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "model.py").write_text("code")
    (folder / "README.md").write_text("words")
    return folder


def notes(action: Callable[[], object]) -> list[str]:
    heard: list[Event] = []
    with events.listening(heard.append):
        action()
    return [event["text"] for event in heard if event["kind"] == "note"]


# -- models ------------------------------------------------------------------------------------


def test_only_config_tokenizer_and_safetensors_are_fetched(
    model: Path, hub_emulator: HubEmulator
) -> None:
    commit = hub_emulator.add_repo("org/name", model)
    heard: list[Event] = []
    assert hub.cached("org/name") is None
    with events.listening(heard.append):
        folder = hub.fetch("org/name")
    assert folder.name == commit
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


def test_code_is_fetched_only_for_who_trusts_it(model: Path, hub_emulator: HubEmulator) -> None:
    hub_emulator.add_repo("org/name", model)
    assert (hub.fetch("org/name", code=True) / "model.py").is_file()


def test_a_revision_is_the_one_that_is_asked_for(hub_emulator: HubEmulator) -> None:
    first = hub_emulator.add_repo("org/name", {"config.json": b"1"})
    second = hub_emulator.add_commit("org/name", {"config.json": b"2"})
    assert (hub.fetch("org/name", revision=first) / "config.json").read_bytes() == b"1"
    assert hub.fetch("org/name").name == second


def test_a_cached_model_is_taken_without_the_hub_and_that_is_told(
    model: Path, hub_emulator: HubEmulator, use_hub: UseHub
) -> None:
    commit = hub_emulator.add_repo("org/name", model)
    use_hub(hub_emulator.url)
    folder = hub.fetch("org/name")
    assert notes(lambda: hub.fetch("org/name")) == []  # the Hub says that it is the newest
    for offline in ("", OUT_OF_REACH):
        use_hub(offline)
        assert commit[:12] in notes(lambda: hub.fetch("org/name"))[0]
        assert hub.fetch("org/name") == folder


def test_a_word_that_is_no_id_is_refused(use_hub: UseHub) -> None:
    with pytest.raises(ModelError, match="not a Hub id"):
        hub.fetch("org/na--me")


def test_a_snapshot_without_weights_is_not_a_cached_model(
    model: Path, hub_emulator: HubEmulator
) -> None:
    commit = hub_emulator.add_repo("org/name", model)
    folder = hub.fetch("org/name")
    (folder / "model.safetensors").unlink()
    (folder.parent.parent / "trees" / f"{commit}.json").unlink()
    assert hub.cached("org/name") is None


def test_a_cache_that_cannot_be_written_is_a_storage_error(
    model: Path, hub_emulator: HubEmulator, tmp_path: Path
) -> None:
    hub_emulator.add_repo("org/name", model)
    (tmp_path / "hub-cache").write_text("a file where the cache should be")
    with pytest.raises(StorageError, match="hub-cache"):
        hub.fetch("org/name")


# -- what the Hub refuses ----------------------------------------------------------------------


def test_a_hub_out_of_reach_is_said_with_what_to_do(use_hub: UseHub) -> None:
    use_hub(OUT_OF_REACH)
    with pytest.raises(NetworkError, match="again when the Hub can be reached, or give a"):
        hub.fetch("org/name")


def test_offline_mode_is_named(use_hub: UseHub) -> None:
    use_hub("")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE is set") as caught:
        hub.fetch("org/name")
    assert "unset HF_HUB_OFFLINE" in str(caught.value)


def test_what_is_not_there_is_said_by_who_may_know_it(
    hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AccessError, match=r"check the id; for a private model: nexa login"):
        hub.fetch("org/name")
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(TOKEN))
    with pytest.raises(ModelError, match="no model org/name, or it is private"):
        hub.fetch("org/name")
    hub_emulator.add_repo("org/name", {"config.json": b"{}"})
    with pytest.raises(ModelError, match="no revision 'v9'"):
        hub.fetch("org/name", revision="v9")


def test_a_private_model_opens_to_its_owners_token(
    model: Path, hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_emulator.add_repo("tester/name", model, private=True)
    with pytest.raises(AccessError, match="wants a token"):
        hub.fetch("tester/name")
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(TOKEN, role="read"))
    assert (hub.fetch("tester/name") / "config.json").is_file()


def test_a_gated_model_says_whose_terms_are_to_be_accepted(
    model: Path, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_repo("org/name", model, gated=True)
    with pytest.raises(AccessError, match=r"is gated(.|\n)*accept them on its page"):
        hub.fetch("org/name")


@pytest.mark.parametrize(
    ("value", "state", "said"),
    [
        (TOKEN, "expired", "has expired"),
        (TOKEN, "revoked", "was revoked"),
        ("secret-of-something-else", "revoked", "is not a Hub token"),
    ],
)
def test_a_bad_token_is_named_even_for_a_public_model(
    model: Path,
    hub_emulator: HubEmulator,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    state: str,
    said: str,
) -> None:
    hub_emulator.add_repo("org/name", model)
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(value, state=state))
    with pytest.raises(AccessError, match=said):
        hub.fetch("org/name")


# -- datasets ----------------------------------------------------------------------------------


def test_of_a_dataset_the_files_of_rows_are_fetched(hub_emulator: HubEmulator) -> None:
    rows = {"data/train.jsonl": b"{}\n", "test.csv.gz": b"zipped", "notes.txt": b"text"}
    rest = {"README.md": b"words", "load.py": b"code", "dataset_infos.json": b"{}"}
    commit = hub_emulator.add_repo("org/rows", rows | rest, kind="dataset")
    folder = hub.fetch_dataset("org/rows")
    assert folder.name == commit
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(rows)


def test_a_dataset_without_rows_is_refused_with_what_counts_as_rows(
    hub_emulator: HubEmulator,
) -> None:
    hub_emulator.add_repo("org/rows", {"README.md": b"words"}, kind="dataset")
    with pytest.raises(DataError, match=r"no file of rows(.|\n)*\.jsonl"):
        hub.fetch_dataset("org/rows")


def test_a_dataset_that_is_not_there_is_a_fault_of_the_data(
    hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(TOKEN))
    with pytest.raises(DataError, match="no dataset org/rows"):
        hub.fetch_dataset("org/rows")


def test_a_dataset_is_taken_from_the_cache_offline(
    hub_emulator: HubEmulator, use_hub: UseHub
) -> None:
    hub_emulator.add_repo("org/rows", {"train.jsonl": b"{}\n"}, kind="dataset")
    use_hub(hub_emulator.url)
    folder = hub.fetch_dataset("org/rows")
    use_hub("")
    assert hub.fetch_dataset("org/rows") == folder
