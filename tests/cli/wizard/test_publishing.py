from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import constants

from nexa.cli.wizard.access import Access
from nexa.cli.wizard.publishing import Publishing, ask_publishing
from nexa.core.errors import AccessError, UsageError
from nexa.core.secrets import Secret
from nexa.lm.hub_access import Identity
from tests.cli.wizard.typed import Person
from tests.support.hub_emulator import HubEmulator

GOOD = "hf_" + "publishs" * 5
READ = "hf_" + "readonly" * 5
NOTHING: dict[str, Any] = {"publish": None, "repo": None, "private": None}


def typed(value: str) -> Access:
    return Access(Secret(value, "the prompt"), Identity("tester", (), "write"))


def test_without_a_token_enter_is_a_local_folder_and_the_hub_is_not_offered() -> None:
    person = Person("hub", "", "no-owner", "me/mine")
    assert ask_publishing(person, NOTHING, Access(), "mine") == Publishing("local", "me/mine")
    assert "'hub' is none of the choices" in person.seen
    assert "Repository [you/mine]: " in person.seen
    assert "should be owner/name" in person.seen


def test_it_can_be_left_alone() -> None:
    assert ask_publishing(Person("no"), NOTHING, Access(), "mine") == Publishing()


def test_with_a_token_enter_is_the_hub_and_private(hub_emulator: HubEmulator) -> None:
    hub_emulator.add_token(GOOD, name="tester")
    person = Person("", "", "")
    made = ask_publishing(person, NOTHING, typed(GOOD), "mine")
    assert made == Publishing(hub_emulator.url, "tester/mine", private=True)


def test_a_token_that_was_there_before_sends_nothing_away_by_enter() -> None:
    before = Access(Secret(GOOD, "the environment (HF_TOKEN)"))
    nobody = Person(asks=False)
    assert ask_publishing(nobody, NOTHING, before, "mine") == Publishing("local", "you/mine")


def test_a_token_that_may_not_write_is_told_and_another_place_asked_for(
    hub_emulator: HubEmulator,
) -> None:
    hub_emulator.add_token(READ, name="tester", role="read")
    given = {"publish": "hub", "repo": "tester/mine", "private": None}
    person = Person("local", "")
    assert ask_publishing(person, given, typed(READ), "mine") == Publishing("local", "you/mine")
    assert "read-only" in person.seen
    with pytest.raises(AccessError, match="read-only"):
        ask_publishing(Person(asks=False), given, typed(READ), "mine")


def test_out_of_reach_of_the_hub_the_answer_is_taken_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    given = {"publish": "hub", "repo": "tester/mine", "private": False}
    person = Person()
    made = ask_publishing(person, given, typed(GOOD), "mine")
    assert made == Publishing("https://huggingface.co", "tester/mine")
    assert "is not known until it is published" in person.seen


def test_a_flag_without_a_token_is_refused() -> None:
    with pytest.raises(UsageError, match="'hub' is none of the choices"):
        ask_publishing(Person(asks=False), {**NOTHING, "publish": "hub"}, Access(), "mine")
