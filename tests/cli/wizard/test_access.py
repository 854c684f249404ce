from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from nexa import session
from nexa.cli.wizard.access import Access, ask_token, keep
from nexa.core.secrets import Secret, holding, hub_token
from nexa.lm.hub_access import Identity
from tests.cli.wizard.typed import Person
from tests.session.processes import server_pid, short_folder
from tests.support.hub_emulator import HubEmulator

GOOD = "hf_" + "accesses" * 5


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with short_folder() as place:
        monkeypatch.setenv("NEXA_RUNTIME", str(place))
        yield place


def test_enter_skips_it(runtime: Path) -> None:
    person = Person("")
    assert ask_token(person) == Access()
    assert Access().shown() == "none"
    assert "publishing then goes to a local folder" in person.seen


def test_every_kind_of_bad_token_is_told_in_its_own_words_and_asked_again(
    runtime: Path, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_token(GOOD, name="tester")
    hub_emulator.add_token("hf_" + "expireds" * 5, state="expired")
    hub_emulator.add_token("hf_" + "revokeds" * 5, state="revoked")
    person = Person(
        *("white space", "hf_" + "unknowns" * 5, "hf_" + "expireds" * 5),
        *("hf_" + "revokeds" * 5, "sixteen-letters!", GOOD),
    )
    access = ask_token(person)
    assert access.is_new
    assert access.identity is not None
    assert access.identity.name == "tester"
    for reason in ("a blank at", "does not know this token", "has expired", "is not a Hub token"):
        assert reason in person.seen
    assert f"{GOOD[:5]}...{GOOD[-4:]} of tester (write), from the prompt" in person.seen
    assert GOOD not in person.seen


def test_out_of_reach_of_the_hub_it_is_kept_unchecked_and_told(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    person = Person(GOOD)
    access = ask_token(person)
    assert access.identity is None
    assert "offline mode is on" in person.seen
    assert "kept unchecked" in person.seen


def test_one_in_the_environment_is_shown_and_not_asked_for(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD)
    person = Person()
    access = ask_token(person)
    assert not access.is_new
    assert f"{GOOD[:5]}...{GOOD[-4:]}, from the environment (HF_TOKEN)" in person.seen
    assert keep(access) == ""


def test_one_that_is_kept_already_stays_with_enter(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "none").write_text(GOOD)
    person = Person("")
    access = ask_token(person)
    assert access.token is not None
    assert access.token.source.startswith("the Hub client's token file")
    assert "Enter keeps it" in person.seen
    assert ask_token(Person(asks=False)).token is not None


def test_a_typed_one_is_found_while_it_is_held_and_kept_by_the_session_then(
    runtime: Path,
) -> None:
    token = Secret(GOOD, "the prompt")
    with holding(token):
        assert hub_token() is token
    assert hub_token() is None
    assert server_pid(runtime) is None
    access = Access(token, Identity("tester", (), "write"))
    assert "nexa logout forgets it" in keep(access)
    assert session.status().has_token
    kept = hub_token()
    assert kept is not None
    assert kept.reveal() == GOOD
    session.logout()
