"""Where the session's token server listens, and one request to it; the standard library only.

The server is `nexa.session`. This side decides whom it talks to: a folder that is the user's own
and closed to others, and at the other end of the socket a process of the same user.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexa.core.errors import AccessError

if TYPE_CHECKING:
    from socket import socket

SOCKET_NAME = "session.sock"
# sun_path of <sys/un.h> with its closing zero: 108 bytes on Linux, 104 on macOS and the BSDs.
MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
TIMEOUT_S = 10.0

Answer = dict[str, Any]


def ask(
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    timeout_s: float = TIMEOUT_S,
) -> Answer | None:
    """Send one request to the user's session server; None when there is none.

    A socket that is not private to the user is none of theirs, and is never spoken to.

    Raises:
        AccessError: a server is there, and refuses or does not answer.
    """
    address = socket_path(environment)
    if not is_private(address.parent) or len(os.fsencode(address)) > MAX_SOCKET_PATH_BYTES:
        return None
    from socket import AF_UNIX, SOCK_STREAM, socket  # 10 ms that `nexa --help` does not need

    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(os.fspath(address))
            if peer_uid(connection) != os.getuid():
                return None
            return _exchange(connection, method, path, body)
        except TimeoutError as error:
            raise AccessError(
                f"the session server does not answer within {timeout_s:g} s",
                found=str(address),
                fix="end that process (python -m nexa.session), then nexa login",
            ) from error
        except AccessError:  # which is an OSError too
            raise
        except OSError:  # no socket, a stale one, or a server that ends just now
            return None


def _exchange(connection: socket, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
    from http.client import HTTPConnection, HTTPException, IncompleteRead, RemoteDisconnected

    http = HTTPConnection("localhost")
    http.sock = connection  # connected already: http.client only speaks
    try:
        http.request(
            method,
            path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        response = http.getresponse()
        status, text = response.status, response.read()
        if not text:
            raise RemoteDisconnected("it ended before its answer did")
        answer = json.loads(text)
    except RemoteDisconnected:  # both an HTTPException and an OSError; here it is the latter
        raise
    except IncompleteRead as error:
        raise ConnectionResetError from error
    except (HTTPException, ValueError) as error:
        raise AccessError(
            "what answers at the session's socket is no session server",
            found=type(error).__name__,
            fix="nexa logout, then nexa login",
        ) from error
    if status != 200 or not isinstance(answer, dict):
        told = answer.get("error") if isinstance(answer, dict) else None
        raise AccessError(f"the session server refuses: {told or f'status {status}'}")
    return answer


# -- where it is -----------------------------------------------------------------------------


def socket_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The socket of the user's session, whether or not a server listens there."""
    return runtime_folder(environment) / SOCKET_NAME


def runtime_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """NEXA_RUNTIME, else `nexa` in the user's own XDG_RUNTIME_DIR, else a folder in /tmp."""
    if named := environment.get("NEXA_RUNTIME"):
        return Path(named).expanduser().absolute()
    if (given := environment.get("XDG_RUNTIME_DIR")) and _is_own_folder(Path(given)):
        return Path(given).absolute() / "nexa"
    return Path(environment.get("TMPDIR") or "/tmp").absolute() / f"nexa-{os.getuid()}"


def is_private(folder: Path) -> bool:
    """Whether it is a real folder (no link) of this user's that nobody else may enter."""
    try:
        mode = folder.lstat().st_mode
    except OSError:
        return False
    return _is_own_folder(folder) and not mode & 0o077


def _is_own_folder(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


# -- who is at the other end -----------------------------------------------------------------


def peer_uid(connection: socket, platform: str = sys.platform) -> int | None:
    """The user id of the process at the other end, by the kernel's word; None if it gives none."""
    reader = _PEER_UID.get(platform)
    return reader(connection) if reader else None


def _uid_on_linux(connection: socket) -> int:
    from socket import SO_PEERCRED, SOL_SOCKET

    # struct ucred of <sys/socket.h>: pid, uid, gid; four bytes each.
    return _second_word(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))


def _uid_on_macos(connection: socket) -> int:
    # struct xucred of <sys/ucred.h>: version, uid, groups; option LOCAL_PEERCRED of SOL_LOCAL.
    return _second_word(connection.getsockopt(0, 1, 76))


def _second_word(raw: bytes) -> int:
    return int.from_bytes(raw[4:8], sys.byteorder)


_PEER_UID: dict[str, Callable[[socket], int]] = {
    "linux": _uid_on_linux,
    "darwin": _uid_on_macos,
}
