"""Secrets: found where the user keeps them, shown nowhere."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.errors import StorageError
from nexa.core.secrets import MASK, Redactor, Secret, find_secrets, hub_token, redact

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
    found = hub_token({} if variable == "HOME" else {variable: value})
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
