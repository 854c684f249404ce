"""The token is asked about where, and only where, a network Hub is published to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import AccessError
from nexa.orchestrate.check import access
from tests.support.hub_emulator import LOCAL_TOKEN, HubEmulator
from tests.support.project import config_of


def test_a_local_hub_needs_no_token(tmp_path: Path) -> None:
    assert access.check(config_of(tmp_path)) == "nothing is published"
    local = config_of(tmp_path, publish={"repo": "you/it", "hub": "local"})
    assert access.check(local) == "you/it goes into a local folder: no token is needed"


def test_a_hub_is_asked_whether_the_token_may_write(
    tmp_path: Path, hub_emulator: HubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, publish={"repo": "tester/it", "hub": hub_emulator.url})
    with pytest.raises(AccessError, match="there is no Hub token"):
        access.check(config)
    hub_emulator.add_token(LOCAL_TOKEN)
    monkeypatch.setenv("HF_TOKEN", LOCAL_TOKEN)
    assert access.check(config) == "tester may write to tester/it (write token)"
