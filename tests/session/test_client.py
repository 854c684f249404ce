"""The client with a real server process at the other end."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from nexa import session
from nexa.core import session_socket
from nexa.core.errors import AccessError, NetworkError, StorageError
from nexa.core.secrets import SESSION, Secret, hub_token
from nexa.lm.hub_access import Identity
from nexa.session import client
from tests.session.processes import end, running_pid, serve_by_hand, server_pid, wait_until
from tests.support.hub_emulator import HubEmulator


def revealed() -> str | None:
    found = hub_token()
    return found.reveal() if found else None


def test_a_token_goes_in_comes_out_in_another_process_and_is_forgotten(
    runtime: Path, token: Secret
) -> None:
    assert not session.status().running
    assert session.login(token, validate=False, ttl_hours=2) is None
    found = session.status()
    assert (found.running, found.has_token, found.expired) == (True, True, False)
    assert found.masked == f"{token.reveal()[:5]}...{token.reveal()[-4:]}"
    assert found.expires_in_s == pytest.approx(7200, abs=60)
    assert found.socket == str(runtime / "session.sock")

    code = (
        "from nexa.core.secrets import hub_token\n"
        "import hashlib\n"
        "t = hub_token()\n"
        "print(t.source, hashlib.sha256(t.reveal().encode()).hexdigest(), t)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    digest = hashlib.sha256(token.reveal().encode()).hexdigest()
    assert said == f"{SESSION} {digest} [redacted]\n"

    assert session.clear()
    assert not session.clear()
    assert revealed() is None
    assert session.status().running
    assert not session.logout()
    wait_until(lambda: not (runtime / "session.sock").exists())
    assert not session.status().running


def test_logout_says_whether_there_was_a_token_and_needs_no_server(
    runtime: Path, token: Secret
) -> None:
    assert not session.logout()
    assert not session.clear()
    session.login(token, validate=False)
    assert session.logout()
    assert revealed() is None


def test_a_new_login_takes_the_place_of_the_old_one(runtime: Path, token: Secret) -> None:
    session.login(Secret("hf_" + "o" * 34, "the test"), validate=False)
    pid = running_pid(runtime)
    session.login(token, validate=False)
    assert revealed() == token.reveal()
    assert running_pid(runtime) == pid


def test_the_environment_comes_before_the_session(runtime: Path, token: Secret) -> None:
    session.login(token, validate=False)
    found = hub_token({**os.environ, "HF_TOKEN": "hf_" + "e" * 34})
    assert found is not None
    assert found.source == "the environment (HF_TOKEN)"


# -- how it starts and ends ------------------------------------------------------------------


def test_start_is_idempotent(runtime: Path) -> None:
    assert session.start().running
    pid = running_pid(runtime)
    assert session.start().running
    assert running_pid(runtime) == pid


def test_many_starts_at_once_end_in_one_server(runtime: Path) -> None:
    code = (
        "from nexa import session\n"
        "from nexa.core.secrets import token_from\n"
        "assert session.start().running\n"
        "session.login(token_from('hf_' + 'r' * 34, 'x'), validate=False)"
    )
    racing = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in racing] == [0] * 4
    assert revealed() == "hf_" + "r" * 34
    assert listeners_at(runtime / "session.sock") == 1


def listeners_at(path: Path) -> int:
    """How many sockets listen at a path, by the kernel's own table."""
    accepting = "00010000"  # __SO_ACCEPTCON of <linux/net.h>
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(line[-1] == str(path) and line[3] == accepting for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_leaves_nothing(
    runtime: Path, token: Secret, number: signal.Signals
) -> None:
    session.login(token, validate=False)
    end(running_pid(runtime), number)
    assert [path.name for path in runtime.iterdir()] == ["session.lock"]
    assert revealed() is None


def test_a_kill_leaves_a_stale_socket_that_the_next_start_replaces(
    runtime: Path, token: Secret
) -> None:
    session.login(token, validate=False)
    end(running_pid(runtime), signal.SIGKILL)
    assert (runtime / "session.sock").is_socket()
    assert revealed() is None
    assert not session.status().running
    session.login(token, validate=False)
    assert revealed() == token.reveal()


def only_root_may_look_into(process: Path) -> None:
    """Others see that the process forbids it, and that is all they can test."""
    if os.getuid() != 0:
        with pytest.raises(PermissionError):
            (process / "environ").read_bytes()
        pytest.skip("only root may look into a process that forbids it")


def test_what_the_process_was_started_with_holds_no_secret(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token.reveal())
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    session.login(token, validate=False)
    process = Path("/proc") / str(running_pid(runtime))
    assert (process / "cmdline").read_bytes().split(b"\0")[1:] == [
        b"-P",
        b"-m",
        b"nexa.session",
        b"",
    ]
    only_root_may_look_into(process)
    environment = (process / "environ").read_bytes()
    assert token.reveal().encode() not in environment
    assert b"WANDB_API_KEY" not in environment
    assert os.readlink(process / "cwd") == "/"
    assert {os.readlink(process / "fd" / number) for number in "012"} == {os.devnull}
    assert b"Max core file size        0                    0" in (process / "limits").read_bytes()
    assert os.getsid(int(process.name)) == int(process.name)


def test_a_server_started_by_hand_drops_the_secrets_of_its_environment(
    runtime: Path, token: Secret
) -> None:
    with serve_by_hand(runtime, HF_TOKEN=token.reveal()) as server:
        environment = b""
        if os.getuid() == 0:  # nobody else may look into it
            environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert token.reveal().encode() not in environment
        assert running_pid(runtime) == server.pid
        server.terminate()
        assert server.wait() == 0
        assert server.stdout is not None
        assert server.stdout.read() == ""
    assert not (runtime / "session.sock").exists()


def test_a_server_that_cannot_start_says_why(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.chmod(0o755)
    with pytest.raises(StorageError, match="only you may enter") as caught:
        session.login(token, validate=False)
    assert "HF_TOKEN" in str(caught.value)
    runtime.chmod(0o700)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"still loading")
    with open(reading, "rb", buffering=0) as said:
        assert client._read_until_closed(said, 0).splitlines()[-1].startswith("it was not ready")
    os.close(writing)


def test_a_server_that_ends_before_it_takes_the_token_is_told(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.start()
    started = session.status()
    end(running_pid(runtime))
    monkeypatch.setattr(client, "start", lambda: started)
    with pytest.raises(StorageError, match="ended before"):
        session.login(token, validate=False)


def test_a_login_right_after_a_logout_is_not_lost(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that answered `start` is gone when the token comes: another is started."""
    start = client.start
    started: list[session.SessionStatus] = []

    def start_and_lose_the_first() -> session.SessionStatus:
        started.append(start())
        if len(started) == 1:
            end(running_pid(runtime))
        return started[-1]

    monkeypatch.setattr(client, "start", start_and_lose_the_first)
    session.login(token, validate=False)
    assert len(started) == 2
    assert revealed() == token.reveal()


def test_whose_it_is_may_be_known_already(runtime: Path, token: Secret) -> None:
    ada = Identity("ada", (), "write")
    assert session.login(token, validate=False, identity=ada) is ada
    assert session.status().name == "ada"


def test_a_dead_server_that_still_answered_is_started_again(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt finds a server that is just ending; the next one starts its own."""
    spawn = client._spawn
    attempts: list[str] = []

    def first_in_vain() -> str:
        attempts.append("one")
        return "" if len(attempts) == 1 else spawn()

    monkeypatch.setattr(client, "_spawn", first_in_vain)
    assert session.start().running
    assert len(attempts) == 2


# -- whose token it is -----------------------------------------------------------------------


def test_a_good_token_is_validated_and_its_owner_shown(
    runtime: Path, token: Secret, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_token(token.reveal(), name="ada", role="write")
    identity = session.login(token)
    assert identity is not None
    assert (identity.name, identity.role) == ("ada", "write")
    found = session.status()
    assert (found.name, found.role) == ("ada", "write")


@pytest.mark.parametrize("state", ["expired", "revoked", "unknown"])
def test_a_token_that_the_hub_refuses_is_not_kept(
    runtime: Path, token: Secret, hub_emulator: HubEmulator, state: str
) -> None:
    if state != "unknown":
        hub_emulator.add_token(token.reveal(), state=state)
    with pytest.raises(AccessError) as caught:
        session.login(token)
    assert token.reveal() not in str(caught.value)
    assert server_pid(runtime) is None


def test_a_hub_out_of_reach_names_the_flag_that_does_without(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch, hub_emulator: HubEmulator
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="--no-validate"):
        session.login(token)
    assert server_pid(runtime) is None
    session.login(token, validate=False)
    assert revealed() == token.reveal()
    assert session_socket.ask("GET", "/status") is not None
