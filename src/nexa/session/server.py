"""The session's process: Flask behind a Unix socket that only its own user can reach.

Standard output, error and input are closed once it listens; whatever it says before that is read
by whoever started it. It ends on SIGTERM, SIGINT, SIGHUP, `/stop`, and an hour after its last
token; its memory is cleared and the socket file removed first. After a kill -9 the file is left
behind, and the next server takes its place.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import signal
import socket
import socketserver
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from nexa.core import session_socket
from nexa.core.errors import NexaError, StorageError
from nexa.core.store import storage_error
from nexa.session.app import create_app
from nexa.session.vault import Vault

LOCK_NAME = "session.lock"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How often the server looks whether a token's time is over.
TICK_S = 0.5
# A server that keeps nothing for so long ends itself.
EMPTY_S = 3600.0
# A client that connects and then says nothing is let go.
REQUEST_TIMEOUT_S = 10.0
PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def main() -> None:
    """Serve until told to stop.

    Raises:
        SystemExit: it cannot; Python shows the reason on stderr, where the starter reads it.
    """
    os.umask(0o077)
    forbid_dumps()
    try:
        serve(ready=let_go)
    except NexaError as error:
        raise SystemExit(str(error)) from error


def serve(*, ready: Callable[[], None], vault: Vault | None = None) -> None:
    """Listen in the runtime folder until a signal comes; at once if a server is there already.

    `ready` is called when the socket listens.

    Raises:
        StorageError: the folder is not private, the path too long, or something is in the way.
    """
    vault = vault or Vault()
    folder = session_socket.runtime_folder()
    make_private(folder)
    with (
        _stopping_on_signals(),
        contextlib.suppress(SystemExit),
        contextlib.ExitStack() as end,
    ):
        # No signal comes between the socket and the promise to remove it.
        with _locked(folder), _signals_held():
            server = _listen(folder / session_socket.SOCKET_NAME, vault)
            if server is not None:
                end.enter_context(server.removed_at_end())
        if server is not None:
            ready()
            server.serve_forever(poll_interval=TICK_S)


def _listen(path: Path, vault: Vault) -> SessionServer | None:
    """A server at `path`; None if one answers there. A socket nobody listens at is replaced."""
    if len(os.fsencode(path)) > session_socket.MAX_SOCKET_PATH_BYTES:
        raise StorageError(
            "the session's socket cannot have so long a path",
            found=f"{path} ({len(os.fsencode(path))} bytes)",
            fix=f"set NEXA_RUNTIME to a folder whose path is shorter than "
            f"{session_socket.MAX_SOCKET_PATH_BYTES - len(session_socket.SOCKET_NAME)} bytes",
        )
    environment = {"NEXA_RUNTIME": str(path.parent)}
    if session_socket.ask("GET", "/status", environment=environment) is not None:
        return None
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StorageError(f"{path} is in the way: it is no socket", fix="move it away")
        path.unlink()
    return SessionServer(path, vault)


class SessionServer(socketserver.ThreadingMixIn, WSGIServer):
    """A WSGI server on a Unix socket; a connection of another user is closed unread."""

    address_family = socket.AF_UNIX
    daemon_threads = True  # a client that hangs does not keep the process alive
    allow_reuse_address = False

    def __init__(self, path: Path, vault: Vault, *, owner_uid: int | None = None) -> None:
        self.path = path
        self.vault = vault
        self.owner_uid = os.getuid() if owner_uid is None else owner_uid
        super().__init__(os.fspath(path), _Handler)  # type: ignore[arg-type]  # a path, no host
        self._inode = path.lstat().st_ino
        self.stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
        self.set_app(create_app(vault, self.stop))

    def server_bind(self) -> None:
        """Bind, and close the file to others before anybody can connect."""
        socketserver.TCPServer.server_bind(self)
        self.path.chmod(0o600)
        self.server_name, self.server_port = "localhost", 0  # what WSGI wants to know
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the other end of a Unix socket has no address."""
        request, _ = super().get_request()
        return request, ("local", 0)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the process at the other end belongs to this user."""
        return session_socket.peer_uid(request) == self.owner_uid

    def service_actions(self) -> None:
        """Between requests: forget a token whose time is over, end after a long emptiness."""
        self.vault.expire()
        if self.vault.empty_s() > EMPTY_S:
            self.stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a traceback holds what must not be shown, and nobody listens."""

    @contextlib.contextmanager
    def removed_at_end(self) -> Iterator[None]:
        """A block after which memory is cleared, and the socket closed and removed."""
        try:
            yield
        finally:
            self.vault.clear()
            self.server_close()
            with _locked(self.path.parent):
                self._remove_file()

    def _remove_file(self) -> None:
        # Another server may have taken the place meanwhile.
        if os.path.lexists(self.path) and self.path.lstat().st_ino == self._inode:
            self.path.unlink()


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Keep no log."""


# -- the process -----------------------------------------------------------------------------


def make_private(folder: Path) -> None:
    """Create a folder that only this user may enter, or see that it is one.

    Raises:
        StorageError: it is a link, another user's, or open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    if not session_socket.is_private(folder):
        found = folder.lstat()
        kind = "a link" if stat.S_ISLNK(found.st_mode) else f"mode {stat.S_IMODE(found.st_mode):o}"
        raise StorageError(
            f"{folder} is not a folder that only you may enter: no token is kept behind it",
            found=f"{kind}, owned by uid {found.st_uid}",
            fix=f"chmod 700 {folder}, or set NEXA_RUNTIME to a folder of your own",
        )


def forbid_dumps() -> None:
    """No core file of this process, and on Linux no look into it by other processes of the user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError):  # Linux alone has prctl
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def let_go() -> None:
    """Hold on to no folder and no terminal: what waits for this process's words goes on."""
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time puts a socket into the folder or takes it away."""
    with (folder / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """A block that SystemExit leaves when a signal comes; a second one does not disturb its end."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(0)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come during the block come at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
