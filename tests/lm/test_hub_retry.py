from __future__ import annotations

import pytest
from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors

from nexa.lm.hub_retry import Patience, passing_error, reason
from tests.support.hub_emulator import HubEmulator


def asking(hub: HubEmulator) -> object:
    return HfApi(endpoint=hub.url, token=False).model_info("org/name")


def test_pauses_double_and_end(hub_emulator: HubEmulator) -> None:
    waits: list[float] = []
    hub_emulator.plan_fault("GET", "/api/models", 500, times=9)
    patience = Patience(tries=5, first_wait_s=2, longest_wait_s=10, sleep=waits.append)
    with pytest.raises(hub_errors.HfHubHTTPError):
        patience.call(lambda: asking(hub_emulator), "asking")
    assert waits == [2, 4, 8, 10]


def test_what_will_not_pass_is_not_tried_again(hub_emulator: HubEmulator) -> None:
    waits: list[float] = []
    with pytest.raises(hub_errors.RepositoryNotFoundError):
        Patience(sleep=waits.append).call(lambda: asking(hub_emulator), "asking")
    assert waits == []


def test_an_error_that_is_none_of_the_hubs_goes_on_up() -> None:
    def fail() -> None:
        raise RuntimeError("a fault of our own")

    with pytest.raises(RuntimeError, match="our own"):
        Patience().call(fail, "asking")
    assert passing_error(RuntimeError()) is None


def test_an_error_is_told_in_one_line(hub_emulator: HubEmulator) -> None:
    hub_emulator.plan_fault("GET", "/api/models", 500, message="tired")
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        asking(hub_emulator)
    assert reason(caught.value) == "status 500: tired"
    assert reason(ValueError("one\ntwo")) == "one"
    assert reason(ValueError()) == "ValueError"


def test_a_refusal_without_words_is_its_status(hub_emulator: HubEmulator) -> None:
    hub_emulator.plan_fault("GET", "/api/models", 502, message="")
    with pytest.raises(hub_errors.HfHubHTTPError) as caught:
        asking(hub_emulator)
    assert reason(caught.value) == "status 502"


def test_a_connection_that_falls_silent_counts_as_lost(hub_emulator: HubEmulator) -> None:
    hub_emulator.add_repo("org/name", {})
    silent = hub_emulator.stop_at("GET", "/refs")
    api, waits = HfApi(endpoint=hub_emulator.url, token=False), list[float]()
    patience = Patience(sleep=waits.append, silence_s=1)
    assert patience.call(lambda: api.list_repo_refs("org/name"), "asking").branches
    assert silent.reached.is_set()
    assert waits
