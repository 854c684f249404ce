"""One request over the session's socket, and whom it is never sent to."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from nexa.core import session_socket
from nexa.core.errors import AccessError
from nexa.core.session_socket import ask, is_private, peer_uid, runtime_folder, socket_path
from tests.session.processes import short_folder


@pytest.fixture
def runtime() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@contextlib.contextmanager
def answering(runtime: Path, text: bytes | None) -> Iterator[dict[str, str]]:
    """A server that says `text` to whoever comes first; None says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime / "session.sock"))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(BrokenPipeError):
                request = connection.recv(65536)
                while request.startswith(b"PUT") and not request.endswith(b"}"):
                    request += connection.recv(65536)
                if text is not None:
                    connection.sendall(text)
                else:
                    connection.recv(1)  # until the other end gives up

        thread = Thread(target=answer)
        thread.start()
        yield {"NEXA_RUNTIME": str(runtime)}
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.connect(str(runtime / "session.sock"))
        thread.join()


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a_request_gets_its_answer(runtime: Path) -> None:
    with answering(runtime, http("200 OK", '{"token": "x"}')) as environment:
        assert ask("PUT", "/token", {"a": 1}, environment=environment) == {"token": "x"}


def test_there_may_be_no_folder_no_socket_or_a_dead_one(runtime: Path) -> None:
    assert ask("GET", "/", environment={"NEXA_RUNTIME": str(runtime / "none")}) is None
    environment = {"NEXA_RUNTIME": str(runtime)}
    assert ask("GET", "/", environment=environment) is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "session.sock"))
    assert ask("GET", "/", environment=environment) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"HTTP/1.0 200 OK\r\nContent-", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{"],
)
def test_a_server_that_ends_meanwhile_is_none(runtime: Path, text: bytes) -> None:
    with answering(runtime, text) as environment:
        assert ask("GET", "/", environment=environment) is None


def test_a_server_that_does_not_answer_is_an_error_with_a_way_on(runtime: Path) -> None:
    with (
        answering(runtime, None) as environment,
        pytest.raises(AccessError, match="does not answer"),
    ):
        ask("GET", "/", environment=environment, timeout_s=0.05)


@pytest.mark.parametrize(
    "text", [b"SSH-2.0-OpenSSH\r\n", http("200 OK", "no json"), http("200 OK", "\xff")]
)
def test_what_is_no_session_server_is_told(runtime: Path, text: bytes) -> None:
    with answering(runtime, text) as environment, pytest.raises(AccessError, match="no session"):
        ask("GET", "/", environment=environment)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (http("400 Bad", '{"error": "no token"}'), "refuses: no token"),
        (http("500 Bad", "[]"), "refuses: status 500"),
        (http("500 Bad", "{}"), "refuses: status 500"),
        (http("200 OK", "[]"), "refuses: status 200"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(runtime: Path, text: bytes, said: str) -> None:
    with answering(runtime, text) as environment, pytest.raises(AccessError, match=said):
        ask("GET", "/", environment=environment)


def test_nothing_is_sent_to_a_server_of_another_user(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(session_socket._PEER_UID, sys.platform, lambda _: os.getuid() + 1)
    with answering(runtime, http("200 OK", "{}")) as environment:
        assert ask("GET", "/", environment=environment) is None


def test_a_folder_that_others_may_enter_is_never_asked(runtime: Path) -> None:
    with answering(runtime, http("200 OK", "{}")) as environment:
        runtime.chmod(0o750)
        assert ask("GET", "/", environment=environment) is None
        runtime.chmod(0o700)


# -- where it is -----------------------------------------------------------------------------


def test_the_runtime_folder_is_the_named_one_else_the_users_own_else_in_tmp(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"NEXA_RUNTIME": "~/here", "XDG_RUNTIME_DIR": str(runtime)}
    assert runtime_folder(named) == Path("~/here").expanduser()
    assert runtime_folder({"XDG_RUNTIME_DIR": str(runtime)}) == runtime / "nexa"
    assert socket_path({"XDG_RUNTIME_DIR": str(runtime)}) == runtime / "nexa" / "session.sock"
    own = f"nexa-{os.getuid()}"
    assert runtime_folder({"TMPDIR": str(runtime)}) == runtime / own
    assert runtime_folder({}) == Path("/tmp") / own
    monkeypatch.chdir(runtime)
    assert runtime_folder({"NEXA_RUNTIME": "here"}) == runtime / "here"


def test_a_runtime_folder_of_someone_else_is_not_taken(runtime: Path) -> None:
    (runtime / "link").symlink_to(runtime)
    for other in (runtime / "link", runtime / "none", runtime / "file"):
        if other.name == "file":
            other.write_text("")
        environment = {"XDG_RUNTIME_DIR": str(other), "TMPDIR": "/t"}
        assert runtime_folder(environment) == Path(f"/t/nexa-{os.getuid()}")
        assert not is_private(other)


# -- who is at the other end -----------------------------------------------------------------


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) == os.getuid()
        assert peer_uid(one, platform="plan9") is None


def test_macos_tells_it_as_a_struct_of_its_own() -> None:
    class MacSocket(socket.socket):
        def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:  # type: ignore[override]
            assert (level, option, size) == (0, 1, 76)
            return struct.pack("=IIh2x16I", 0, 501, 1, *range(16))

    with MacSocket(socket.AF_UNIX) as connection:
        assert peer_uid(connection, platform="darwin") == 501
