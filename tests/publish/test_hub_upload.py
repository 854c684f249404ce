from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import GateError, NetworkError
from nexa.core.events import Event
from nexa.core.identity import sha256_bytes
from nexa.publish.hub_remote import HubRemote
from nexa.publish.hub_upload import Content
from tests.publish.remote import ADAPTER, REPO, WEIGHTS, notes, publication
from tests.support.hub_emulator import HubEmulator


def test_an_object_that_is_known_from_elsewhere_is_not_sent(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_repo("another/one", {"model.safetensors": WEIGHTS})
    remote.publish(REPO, publication())
    assert hub_emulator.uploads().keys() == {sha256_bytes(ADAPTER)}
    assert hub_emulator.files(REPO)["model.safetensors"] == WEIGHTS


def test_large_objects_may_be_wanted_in_parts(remote: HubRemote, hub_emulator: HubEmulator) -> None:
    hub_emulator.send_large_objects_in_parts(100_000)
    remote.publish(REPO, publication())
    sent = hub_emulator.uploads()
    assert [r.received for r in sent[sha256_bytes(WEIGHTS)]] == [100_000] * 3
    assert [r.received for r in sent[sha256_bytes(ADAPTER)]] == [100_000, 20_000]


def test_the_bar_counts_what_is_sent_and_ends_full(remote: HubRemote) -> None:
    heard: list[Event] = []
    with events.listening(heard.append):
        remote.publish(REPO, publication())
    bars = [event for event in heard if event.get("task") == f"uploading to {REPO}"]
    assert [bars[0]["kind"], bars[-1]["kind"]] == ["progress.start", "progress.end"]
    size_mb = sum(len(data) for data in publication().values() if isinstance(data, bytes)) / 1e6
    assert bars[0]["total"] == bars[-1]["done"] == pytest.approx(size_mb)
    done = [event["done"] for event in bars[1:]]
    assert done == sorted(done)
    assert len(done) > 5


def test_bars_that_the_user_asks_for_stay(
    remote: HubRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", False)
    assert remote.publish(REPO, publication()).changed


def test_a_card_without_metadata_is_told(remote: HubRemote) -> None:
    told = notes(lambda: remote.publish(REPO, publication(b"no front matter\n")))
    assert any("yaml metadata" in text for text in told)


def test_a_file_that_never_came_is_not_what_the_hub_holds(tmp_path: Path) -> None:
    assert not Content("a", tmp_path / "a").is_it(("git", "0"))


def test_a_connection_lost_in_the_middle_of_a_body_is_taken_up_again(
    remote: HubRemote, hub_emulator: HubEmulator
) -> None:
    oid = sha256_bytes(WEIGHTS)
    hub_emulator.plan_fault("PUT", oid, "drop", after_bytes=150_000)
    assert remote.publish(REPO, publication()).changed
    assert [r.received for r in hub_emulator.uploads()[oid]] == [150_000, len(WEIGHTS)]


def test_a_card_that_the_hub_refuses_is_told(remote: HubRemote, hub_emulator: HubEmulator) -> None:
    hub_emulator.plan_fault("POST", "/validate-yaml", 400)
    with pytest.raises(GateError, match=r"Invalid metadata in README\.md"):
        remote.publish(REPO, publication())


def test_an_answer_that_is_no_hubs_is_told(remote: HubRemote, hub_emulator: HubEmulator) -> None:
    hub_emulator.plan_fault("POST", "/preupload/", 200, message='quote " breaks it')
    with pytest.raises(NetworkError, match=r"does not answer as a Hub(.|\n)*is kept"):
        remote.publish(REPO, publication())


def test_a_hub_without_xet_is_sent_to_over_plain_http(
    remote: HubRemote, hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    told = notes(lambda: remote.publish(REPO, publication()))
    assert any("does not speak Xet" in text for text in told)
    assert hub_emulator.files(REPO)["model.safetensors"] == WEIGHTS


def test_what_xet_itself_refuses_is_told(
    remote: HubRemote, hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub_emulator.plan_fault("GET", "/xet-write-token", 410, times=1000)
    with pytest.raises(NetworkError, match="410"):
        remote.publish(REPO, publication())
