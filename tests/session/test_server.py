"""The server's own parts: in this process, over real sockets."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from nexa.core import session_socket
from nexa.core.errors import StorageError
from nexa.core.secrets import Secret, hub_token
from nexa.session import server as server_module
from nexa.session.server import (
    EMPTY_S,
    SessionServer,
    forbid_dumps,
    let_go,
    main,
    make_private,
    serve,
)
from nexa.session.vault import Vault
from tests.session.processes import wait_until
from tests.session.test_vault import Clock

GET = b"GET /token HTTP/1.0\r\n\r\n"


@contextlib.contextmanager
def listening(runtime: Path, token: Secret, owner_uid: int | None = None) -> Iterator[Vault]:
    """A server in a thread, with a token in its vault."""
    vault = Vault()
    vault.put(token.reveal(), ttl_s=60, about={})
    server = SessionServer(runtime / session_socket.SOCKET_NAME, vault, owner_uid=owner_uid)
    with server.removed_at_end():
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield vault
        finally:
            server.shutdown()
            thread.join()


def talk(path: Path, text: bytes) -> bytes:
    """What the server says to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(text)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(4096):
                said += piece
        return said


def test_the_owner_is_answered(runtime: Path, token: Secret) -> None:
    with listening(runtime, token):
        assert token.reveal().encode() in talk(runtime / "session.sock", GET)
        found = hub_token()
    assert found is not None
    assert found.reveal() == token.reveal()


def test_another_uid_gets_not_one_byte(runtime: Path, token: Secret) -> None:
    with listening(runtime, token, owner_uid=os.getuid() + 1):
        assert talk(runtime / "session.sock", GET) == b""
        assert session_socket.ask("GET", "/token") is None


@pytest.mark.root
def test_a_process_of_another_user_gets_not_one_byte_even_through_an_open_socket(
    runtime: Path, token: Secret
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may start a process of another user")
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n    s.connect(sys.argv[1])\n"
        "except OSError as error:\n    sys.exit(type(error).__name__)\n"
        f"try:\n    s.sendall({GET!r})\n    said = s.recv(4096)\n"
        "except (BrokenPipeError, ConnectionResetError):\n    said = b''\n"
        "print(os.getuid(), said)\n"
    )
    path = runtime / "session.sock"
    asking = [sys.executable, "-c", code, str(path)]

    def as_nobody() -> subprocess.CompletedProcess[str]:
        return subprocess.run(asking, capture_output=True, text=True)

    with listening(runtime, token):
        assert as_nobody().stderr.strip() == "PermissionError"
        runtime.chmod(0o755)
        path.chmod(0o666)
        assert as_nobody().stdout.strip() == "65534 b''"
        runtime.chmod(0o700)
        assert hub_token() is not None


def test_the_socket_is_for_its_owner_alone_and_gone_at_the_end(
    runtime: Path, token: Secret
) -> None:
    path = runtime / "session.sock"
    with listening(runtime, token) as vault:
        assert path.stat().st_mode & 0o777 == 0o600
        assert vault.token()
    assert vault.token() is None
    assert not path.exists()


def test_a_client_that_says_nothing_or_nonsense_disturbs_nobody(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening(runtime, token):
        with monkeypatch.context() as impatient:
            impatient.setattr(server_module._Handler, "timeout", 0.05)
            assert talk(runtime / "session.sock", b"") == b""
        assert b"400" in talk(runtime / "session.sock", b"nonsense and more\r\n\r\n")
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(str(runtime / "session.sock"))
            gone.sendall(b"PUT /token HTTP/1.0\r\nContent-Length: 100\r\n\r\nless")
        assert hub_token() is not None
    assert capfd.readouterr() == ("", "")


def test_a_place_that_another_server_took_is_left_alone(runtime: Path, token: Secret) -> None:
    path = runtime / "session.sock"
    first = SessionServer(path, Vault())
    with first.removed_at_end():
        path.rename(runtime / "moved")
        path.write_text("another's")
    assert path.read_text() == "another's"
    path.unlink()
    with SessionServer(path, Vault()).removed_at_end():
        path.unlink()


def test_importing_the_program_starts_nothing(runtime: Path) -> None:
    importlib.import_module("nexa.session.__main__")
    assert list(runtime.iterdir()) == []


# -- the whole of serve, in this process ------------------------------------------------------


def serve_until(
    does: Callable[[], None], vault: Vault | None = None, number: int = signal.SIGTERM
) -> None:
    """Serve in the main thread; `does` runs beside it, then a signal comes."""
    done: list[BaseException] = []

    def beside() -> None:
        try:
            does()
        except BaseException as error:
            done.append(error)
        finally:
            os.kill(os.getpid(), number)

    thread = Thread(target=beside)
    serve(ready=thread.start, vault=vault)
    thread.join()
    if done:
        raise done[0]


@pytest.mark.parametrize("number", server_module.SIGNALS)
def test_a_signal_clears_the_memory_and_removes_the_socket(
    runtime: Path, token: Secret, number: int
) -> None:
    handlers = [signal.getsignal(each) for each in server_module.SIGNALS]
    vault = Vault()
    vault.put(token.reveal(), ttl_s=60, about={})
    seen: list[str] = []

    def look() -> None:
        found = hub_token()
        seen.append(found.reveal() if found else "")

    serve_until(look, vault, number)
    assert seen == [token.reveal()]
    assert vault.token() is None
    assert not (runtime / "session.sock").exists()
    assert [signal.getsignal(each) for each in server_module.SIGNALS] == handlers


def test_a_token_goes_when_its_time_is_over_and_the_server_an_hour_later(
    runtime: Path, token: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TICK_S", 0.01)
    clock = Clock()
    vault = Vault(clock)
    vault.put(token.reveal(), ttl_s=60, about={})

    def time_passes() -> None:
        clock.now_s += 61
        wait_until(lambda: vault._kept is None)  # by the server's own look, nobody asks
        assert hub_token() is None
        clock.now_s += EMPTY_S + 1

    thread = Thread(target=time_passes)
    serve(ready=thread.start, vault=vault)  # comes back by itself
    thread.join()
    assert not (runtime / "session.sock").exists()


def test_a_second_server_leaves_the_first_alone(runtime: Path) -> None:
    ready: list[str] = []
    serve_until(lambda: serve_in_vain(ready))
    assert ready == []


def serve_in_vain(ready: list[str]) -> None:
    """Try to listen where a server is; in a thread there are no signals to wait for."""
    vault = Vault()
    found = server_module._listen(session_socket.socket_path(), vault)
    assert found is None


def test_serving_where_a_server_is_comes_back_at_once(runtime: Path, token: Secret) -> None:
    with listening(runtime, token):
        serve(ready=lambda: pytest.fail("it must not listen"))
        assert hub_token() is not None


def test_a_stale_socket_is_replaced_and_anything_else_is_not(runtime: Path) -> None:
    path = runtime / "session.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    serve_until(lambda: None)
    assert not path.exists()
    path.write_text("a file of the user's")
    with pytest.raises(StorageError, match="in the way"):
        serve(ready=lambda: None)
    assert path.read_text() == "a file of the user's"


# -- the folder -------------------------------------------------------------------------------


def test_the_folder_is_made_for_its_owner_alone(runtime: Path) -> None:
    make_private(runtime / "new" / "one")
    assert (runtime / "new" / "one").stat().st_mode & 0o777 == 0o700
    make_private(runtime / "new" / "one")


def test_a_folder_that_others_may_enter_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.chmod(0o711)
    with pytest.raises(StorageError, match="only you may enter") as caught:
        make_private(runtime)
    assert "mode 711" in str(caught.value)
    assert f"chmod 700 {runtime}" in str(caught.value)
    assert session_socket.ask("GET", "/status") is None


def test_a_link_is_refused_wherever_it_leads(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime / "real").mkdir(mode=0o700)
    (runtime / "link").symlink_to("real")
    with pytest.raises(StorageError, match="a link"):
        make_private(runtime / "link")
    assert not session_socket.is_private(runtime / "link")


def test_a_folder_that_cannot_be_made_is_a_storage_error(runtime: Path) -> None:
    (runtime / "file").write_text("")
    with pytest.raises(StorageError):
        make_private(runtime / "file" / "folder")


def test_a_path_too_long_for_a_socket_is_told_with_what_to_do(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXA_RUNTIME", str(runtime / ("long" * 30)))
    assert session_socket.ask("GET", "/status") is None
    with pytest.raises(StorageError, match="so long a path") as caught:
        serve(ready=lambda: None)
    assert "NEXA_RUNTIME" in str(caught.value)


# -- main -------------------------------------------------------------------------------------


@pytest.fixture
def _streams_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `let_go` points elsewhere, as it was."""
    monkeypatch.chdir(Path.cwd())
    kept = [os.dup(number) for number in (0, 1, 2)]
    yield
    for number, copy in enumerate(kept):
        os.dup2(copy, number)
        os.close(copy)


@pytest.fixture
def _dumps_back() -> Iterator[None]:
    """What `forbid_dumps` takes away, as far as it can be given back."""
    umask = os.umask(0o022)
    os.umask(umask)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    yield
    os.umask(umask)
    ctypes.CDLL(None).prctl(server_module.PR_SET_DUMPABLE, 1, 0, 0, 0)
    with contextlib.suppress(ValueError):  # only root may raise it again
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.usefixtures("_streams_back", "_dumps_back")
def test_the_process_cannot_be_dumped_and_holds_on_to_nothing() -> None:
    forbid_dumps()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
    let_go()
    assert Path.cwd() == Path("/")
    assert {os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)} == {os.devnull}


@pytest.mark.usefixtures("_dumps_back")
def test_main_serves_and_says_why_it_cannot(runtime: Path, token: Secret) -> None:
    with listening(runtime, token):
        main()  # one is there: nothing to do
    runtime.chmod(0o755)
    with pytest.raises(SystemExit, match="only you may enter"):
        main()
    runtime.chmod(0o700)
