from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.config import PublishSection
from nexa.core.errors import AccessError, UsageError
from nexa.core.tiers import Tiers
from nexa.orchestrate.hubs import hub_name, hub_of, require_hub
from nexa.publish.hub_folder import HubFolder
from nexa.publish.hub_remote import HubRemote
from tests.support.hub_emulator import HubEmulator

TOKEN = "hf_" + "asked" * 6


def test_a_hub_folder_is_taken_from_the_project(tmp_path: Path) -> None:
    tiers = Tiers.of(tmp_path)
    folders = {"local": tmp_path / ".nexa" / "hub", "shared": tmp_path / "shared"}
    for hub, folder in {**folders, "/elsewhere": Path("/elsewhere")}.items():
        found = hub_of(hub, tiers)
        assert isinstance(found, HubFolder)
        assert found.root == folder
        assert hub_name(hub) == "local"


def test_an_address_is_a_hub_on_the_network(tmp_path: Path) -> None:
    found = hub_of("https://hub.example/", Tiers.of(tmp_path))
    assert isinstance(found, HubRemote)
    assert found.location("you/it") == "https://hub.example/you/it"
    assert hub_name("https://hub.example/") == "https://hub.example"


def test_a_folder_needs_a_name_and_no_permission(tmp_path: Path) -> None:
    require_hub(PublishSection(repo="you/it", hub="local"), Tiers.of(tmp_path))
    with pytest.raises(UsageError, match="not a repository's name"):
        require_hub(PublishSection(repo="_you/it", hub="local"), Tiers.of(tmp_path))


def test_a_hub_is_asked_whether_the_token_may_write(
    tmp_path: Path, hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, tiers = PublishSection(repo="tester/it"), Tiers.of(tmp_path)
    assert wanted.hub == hub_emulator.url
    with pytest.raises(AccessError, match="nexa login, or publish to a local folder: --hub local"):
        require_hub(wanted, tiers)
    monkeypatch.setenv("HF_TOKEN", hub_emulator.add_token(TOKEN, role="read"))
    with pytest.raises(AccessError, match="read-only"):
        require_hub(wanted, tiers)
    hub_emulator.add_token(TOKEN)
    require_hub(wanted, tiers)
