"""`nexa login`, `logout` and `session`, with real servers and a real terminal."""

from __future__ import annotations

import getpass
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from nexa.cli.main import main
from nexa.cli.session import MAX_TOKEN_BYTES
from nexa.core.errors import AccessError, NetworkError, UsageError
from nexa.core.secrets import hub_token
from tests.session.processes import server_pid, short_folder, wait_until
from tests.support.hub_emulator import HubEmulator

TOKEN = "hf_" + "cLi" * 11 + "x"
MASKED = "hf_cL...cLix"


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with short_folder() as folder:
        monkeypatch.setenv("NEXA_RUNTIME", str(folder))
        yield folder


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Give these bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def revealed() -> str | None:
    found = hub_token()
    return found.reveal() if found else None


def test_a_piped_token_is_kept_and_shown_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe_in(monkeypatch, f"{TOKEN}\n".encode())
    assert main(["login", "--no-validate", "--ttl", "2"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Logged in\n")
    assert MASKED in out
    assert "not asked (--no-validate)" in out
    assert "2 h 00 min" in out
    assert TOKEN not in out + err
    assert revealed() == TOKEN
    assert main(["session", "status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["has_token"], told["masked"]) == (True, True, MASKED)


def test_a_token_in_the_environment_still_comes_first_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "e" * 34)
    pipe_in(monkeypatch, TOKEN.encode())
    assert main(["login", "--no-validate"]) == 0
    assert "note: the environment (HF_TOKEN) comes before the session" in capsys.readouterr().err


def test_who_it_is_and_what_they_may_do_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hub_emulator: HubEmulator,
) -> None:
    hub_emulator.add_token(TOKEN, name="ada", role="read")
    pipe_in(monkeypatch, TOKEN.encode())
    assert main(["login"]) == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:4]] == [
        ["token", MASKED],
        ["name", "ada"],
        ["role", "read"],
    ]


def test_each_kind_of_refused_token_gets_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hub_emulator: HubEmulator,
    runtime: Path,
) -> None:
    first, second = "hf_" + "a" * 34, "hf_" + "b" * 34
    hub_emulator.add_token(first, state="expired")
    hub_emulator.add_token(second, state="revoked")
    lines = []
    for token in (first, second, "no-token-at-all"):
        pipe_in(monkeypatch, token.encode())
        assert main(["login"]) == AccessError.exit_code
        lines.append(capsys.readouterr().err.splitlines()[0])
    assert "has expired" in lines[0]
    assert "revoked" in lines[1]
    assert "begin with hf_" in lines[2]
    assert server_pid(runtime) is None


def test_without_the_hub_the_way_without_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pipe_in(monkeypatch, TOKEN.encode())
    assert main(["login"]) == NetworkError.exit_code
    assert "try    nexa login --no-validate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"hf_two words", b"hf_\x00", b"\xff\xfe" + TOKEN.encode(), b"x y" * 4000]
)
def test_what_is_no_token_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runtime: Path,
    data: bytes,
) -> None:
    assert len(data) < 4 * MAX_TOKEN_BYTES
    pipe_in(monkeypatch, data)
    assert main(["login", "--no-validate"]) == AccessError.exit_code
    assert "that is no token" in capsys.readouterr().err
    assert server_pid(runtime) is None


def test_logout_and_clear_say_whether_there_was_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runtime: Path
) -> None:
    assert main(["logout"]) == 0
    assert capsys.readouterr().out == "There was no token\n"
    pipe_in(monkeypatch, TOKEN.encode())
    main(["login", "--no-validate", "-q"])
    capsys.readouterr()
    assert main(["session", "clear"]) == 0
    assert main(["session", "clear"]) == 0
    assert capsys.readouterr().out == "The token is forgotten\nThere was no token\n"
    assert server_pid(runtime) is not None
    pipe_in(monkeypatch, TOKEN.encode())
    main(["login", "--no-validate"])
    capsys.readouterr()
    assert main(["logout", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"cleared": True}
    wait_until(lambda: server_pid(runtime) is None)


def test_status_tells_of_no_server_an_empty_one_and_an_expired_token(
    capsys: pytest.CaptureFixture[str], runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["session", "status"])
    assert capsys.readouterr().out == "No session runs\n  token  none: nexa login\n"
    main(["session", "start"])
    assert capsys.readouterr().out == "The session runs\n  token  none: nexa login\n"
    pipe_in(monkeypatch, TOKEN.encode())
    main(["login", "--no-validate", "--ttl", "0.000001"])
    capsys.readouterr()
    wait_until(lambda: revealed() is None)
    main(["session", "status"])
    assert capsys.readouterr().out == "The session runs\n  token  expired: nexa login\n"


@pytest.mark.parametrize("ttl", ["0", "-1", "169", "long"])
def test_a_time_that_makes_no_sense_is_a_usage_error(ttl: str) -> None:
    assert main(["login", "--ttl", ttl]) == UsageError.exit_code


# -- at a terminal ---------------------------------------------------------------------------


def at_terminal(*words: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable, ["-m", "nexa", *words], encoding="utf-8", timeout=60, env=dict(os.environ)
    )


def test_at_a_terminal_the_token_is_asked_for_and_not_shown() -> None:
    child = at_terminal("login", "--no-validate")
    child.expect("not shown.*: ")
    child.sendline(TOKEN)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert MASKED in str(child.before)
    assert TOKEN not in str(child.before)
    assert revealed() == TOKEN


def test_ctrl_c_at_the_prompt_is_clean(runtime: Path) -> None:
    child = at_terminal("login")
    child.expect("not shown.*: ")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in str(child.before)
    assert server_pid(runtime) is None


class Terminal(io.StringIO):
    """A standard input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_prompt_gives_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: TOKEN)
    assert main(["login", "--no-validate"]) == 0
    assert revealed() == TOKEN


def test_a_terminal_that_would_show_the_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(prompt: str) -> str:
        warnings.warn("Can not control echo", getpass.GetPassWarning, stacklevel=1)
        return TOKEN

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", shown)
    assert main(["login"]) == UsageError.exit_code
    assert "cannot hide what is typed" in capsys.readouterr().err
