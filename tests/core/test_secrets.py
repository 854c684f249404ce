"""Secrets: found where the user keeps them, shown nowhere."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa import session
from nexa.core.errors import AccessError, StorageError
from nexa.core.secrets import (
    MASK,
    SESSION,
    Redactor,
    Secret,
    child_environment,
    find_secrets,
    holding,
    hub_endpoint,
    hub_token,
    masked,
    redact,
    token_from,
)
from tests.session.processes import short_folder

TOKEN = "hf_" + "aB3d" * 9
# The form that each issuer documents; none of these was ever issued.
CREDENTIALS = [
    TOKEN,
    "sk-proj-" + "aB3_" * 10,
    "sk-ant-api03-" + "x9-Y" * 10,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1_B" * 15,
    "AKIA" + "ABCD" * 4,
    "tskey-auth-" + "k3X-" * 5,
    "xoxb-" + "123-" * 4,
    "api_org_" + "aBcD" * 9,
    "glpat-" + "aB3_" * 6,
    "AIza" + "aB3_-" * 7,
]
INNOCENT = [
    "hf_transfer",
    "task-specific-fine-tuning-of-models",
    "risk-assessment-and-mitigation-plan",
    "disk-usage-of-2-terabytes-and-more",
    "sk-learn-is-not-a-key-of-anything",
    "a" * 64,
    "AKIANOTAKEY",
    "nexa-2025-10-28-141200-ab12",
]


def test_a_secret_prints_as_nothing_however_it_is_printed() -> None:
    secret = Secret(TOKEN, "the environment (HF_TOKEN)")
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>80}",
        "%s" % secret,  # noqa: UP031
        str([secret]),
        str({"token": secret}),
        json.dumps({"token": secret}, default=str),
        str(ValueError(secret)),
    ]
    assert not [text for text in shown if TOKEN in text]
    assert secret.source in repr(secret)
    assert secret.reveal() == TOKEN


def test_a_secret_cannot_be_taken_apart_copied_or_pickled() -> None:
    secret = Secret(TOKEN, "here")
    with pytest.raises(TypeError):
        vars(secret)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            leak(secret)


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_what_looks_like_a_credential_is_taken_out(credential: str) -> None:
    for text in (credential, f"token={credential}", f'"{credential}"', f"a:{credential}@host"):
        assert credential not in redact(text)
        assert MASK in redact(text)
        assert find_secrets(f"first\n{text}\nthird") == [2]


@pytest.mark.parametrize("text", INNOCENT)
def test_words_that_only_look_a_little_like_one_stay(text: str) -> None:
    assert redact(text) == text
    assert find_secrets(text) == []


def test_a_known_secret_is_taken_out_whatever_it_looks_like() -> None:
    redactor = Redactor()
    redactor.learn(Secret('correct "horse"', "test"))
    assert redactor('say correct "horse" twice') == f"say {MASK} twice"
    assert "horse" not in redactor(json.dumps({"x": 'correct "horse"'}))


def test_a_secret_within_a_longer_one_does_not_leave_its_rest() -> None:
    for order in ([0, 1], [1, 0]):
        redactor = Redactor()
        for index in order:
            redactor.learn(Secret(["password", "password-and-more"][index], "test"))
        assert redactor("password-and-more, password") == f"{MASK}, {MASK}"


def test_nothing_and_very_short_values_are_not_learnt() -> None:
    redactor = Redactor()
    redactor.learn(None)
    redactor.learn(Secret("the", "test"))
    assert redactor("the text stays") == "the text stays"


@given(st.text(), st.text(min_size=8, max_size=30).filter(lambda s: s not in MASK))
def test_no_text_keeps_a_known_secret(text: str, value: str) -> None:
    redactor = Redactor()
    redactor.learn(Secret(value, "test"))
    assert value not in redactor(text + value + text).replace(MASK, "\x00")


# -- where the Hub token comes from --------------------------------------------------------------


def test_the_environment_comes_first_and_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file")
    found = hub_token({"HF_TOKEN": f" {TOKEN}\n", "HF_HOME": str(tmp_path)})
    assert found is not None
    assert (found.reveal(), found.source) == (TOKEN, "the environment (HF_TOKEN)")
    old = hub_token({"HF_TOKEN": " ", "HUGGING_FACE_HUB_TOKEN": TOKEN})
    assert old is not None
    assert old.source == "the environment (HUGGING_FACE_HUB_TOKEN)"


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("HF_TOKEN_PATH", "elsewhere"),
        ("HF_HOME", "token"),
        ("XDG_CACHE_HOME", "huggingface/token"),
        ("HOME", ".cache/huggingface/token"),
    ],
)
def test_then_the_file_that_the_hubs_own_client_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, file: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("HOME", str(tmp_path if variable == "HOME" else tmp_path / "nobody"))
    value = str(path) if variable == "HF_TOKEN_PATH" else str(tmp_path)
    found = hub_token(
        {"NEXA_RUNTIME": str(tmp_path), **({} if variable == "HOME" else {variable: value})}
    )
    assert found is not None
    assert found.reveal() == TOKEN
    assert str(path) in found.source


def test_there_may_be_no_token(tmp_path: Path) -> None:
    assert hub_token({"HF_HOME": str(tmp_path)}) is None
    (tmp_path / "token").write_text(" \n")
    assert hub_token({"HF_HOME": str(tmp_path)}) is None


def test_a_token_file_that_cannot_be_read_is_told_without_its_contents(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe" + TOKEN.encode())
    with pytest.raises(StorageError, match="token file") as caught:
        hub_token({"HF_HOME": str(tmp_path)})
    assert TOKEN not in str(caught.value)


def test_the_session_comes_between_the_parent_and_the_file(
    tmp_path: Path, token_in_session: str
) -> None:
    (tmp_path / "token").write_text("hf_" + "f" * 34)
    found = hub_token({**os.environ, "HF_HOME": str(tmp_path)})
    assert found is not None
    assert (found.reveal(), found.source) == (token_in_session, SESSION)
    found = hub_token({"NEXA_RUNTIME": str(tmp_path / "none"), "HF_HOME": str(tmp_path)})
    assert found is not None
    assert "token file" in found.source


@pytest.fixture
def token_in_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A token in a real session."""
    with short_folder() as folder:
        monkeypatch.setenv("NEXA_RUNTIME", str(folder))
        session.login(Secret("hf_" + "s" * 34, "the test"), validate=False)
        yield "hf_" + "s" * 34


def test_a_token_that_was_just_typed_comes_before_all_for_a_block() -> None:
    typed = Secret("hf_" + "t" * 34, "typed")
    environment = {"HF_TOKEN": TOKEN}
    with holding(typed):
        assert hub_token(environment) is typed
    with holding(None):
        found = hub_token(environment)
        assert found is not None
        assert found.reveal() == TOKEN


def test_a_token_that_was_found_is_known_to_the_redactor() -> None:
    assert hub_token({"HF_TOKEN": "unusual-form-of-a-token"}) is not None
    assert redact("say unusual-form-of-a-token") == f"say {MASK}"


def test_the_hub_is_where_the_environment_says() -> None:
    assert hub_endpoint({}) == "https://huggingface.co"
    assert hub_endpoint({"HF_ENDPOINT": " "}) == "https://huggingface.co"
    assert hub_endpoint({"HF_ENDPOINT": "http://127.0.0.1:9/"}) == "http://127.0.0.1:9"


# -- what a person types ---------------------------------------------------------------------


def test_what_stands_around_a_token_is_not_part_of_it() -> None:
    found = token_from(f" {TOKEN}\r\n", "the prompt")
    assert (found.reveal(), found.source) == (TOKEN, "the prompt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("hf_ab cd", "a blank at position 6 of 8"),
        ("hf_ab\ncd", "a blank at position 6 of 8"),
        ("hf_ab\x1b[0m", "a character that no token has at position 6"),
        ("hf_ab\x00", "a character that no token has"),
        ("hf_ab\u00e9", "a character that no token has"),
        ("hf_ab\ufffd", "a character that no token has"),
    ],
)
def test_a_malformed_token_is_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(AccessError, match=said) as caught:
        token_from(text, "the prompt")
    assert "hf_ab" not in str(caught.value)


def test_a_mask_shows_the_two_ends_of_a_long_token_and_nothing_of_a_short_one() -> None:
    assert masked(Secret("hf_abcdefghijklmnopqrstuvwxyz", "test")) == "hf_ab...wxyz"
    assert masked(Secret("hf_short", "test")) == "..."


# -- child processes -------------------------------------------------------------------------


def test_a_childs_environment_holds_no_credential_by_name_or_by_look() -> None:
    harmless = {
        "PATH": "/bin",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_TOKEN_PATH": "/h/token",
        "HF_HOME": "/h",
        "SSH_AUTH_SOCK": "/run/agent",
        "KEYBOARD": "us",
        "MONKEY": "yes",
    }
    secrets = {
        "HF_TOKEN": "x",
        "HUGGING_FACE_HUB_TOKEN": "x",
        "WANDB_API_KEY": "x",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "TAILSCALE_AUTH_KEY": "x",
        "OPENAI_APIKEY": "x",
        "GH_PAT": "x",
        "db_password": "x",
        "INNOCENT": f"a {TOKEN} inside",
    }
    assert child_environment({**harmless, **secrets}) == harmless


def child_s_source(environment: dict[str, str]) -> str:
    """Where a child of ours finds a token."""
    code = "from nexa.core.secrets import hub_token as f\nprint(f() and f().source)"
    clean = child_environment(environment)
    assert TOKEN not in str(clean)
    words = [sys.executable, "-c", code]
    return subprocess.run(
        words, env=clean, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_child_asks_the_session_itself(token_in_session: str) -> None:
    assert child_s_source(dict(os.environ)) == SESSION


def test_a_child_never_gets_a_token_by_the_environment() -> None:
    assert child_s_source({**os.environ, "HF_TOKEN": TOKEN}) == "None"


def test_a_private_key_is_taken_out_with_its_lines() -> None:
    key = (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\naC1rZXk=\n-----END OPENSSH PRIVATE KEY-----"
    )
    assert redact(f"key: {key} end") == f"key: {MASK} end"
    assert find_secrets(f"first\n{key}") == [2]


def test_a_secret_in_an_address_is_taken_out_too() -> None:
    redactor = Redactor()
    redactor.learn(Secret("pass/word+more", "test"))
    assert redactor("https://hub/?t=pass%2Fword%2Bmore") == f"https://hub/?t={MASK}"
