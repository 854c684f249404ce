"""What a command may ask of the session: start, login, status, clear, logout."""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from nexa.core import session_socket
from nexa.core.errors import NetworkError, StorageError
from nexa.core.secrets import Secret, child_environment, masked

if TYPE_CHECKING:
    from nexa.lm.hub_access import Identity

TTL_HOURS = 8.0
# A server is a Python process that imports flask and cryptography: on a busy machine, seconds.
START_TIMEOUT_S = 60.0
ATTEMPTS = 3


@dataclass(frozen=True)
class SessionStatus:
    """What may be told of the session."""

    running: bool
    has_token: bool
    masked: str | None
    name: str | None
    role: str | None
    expires_in_s: float | None
    expired: bool
    """Whether the last token ran out, rather than being cleared."""
    socket: str


def login(
    token: Secret,
    *,
    validate: bool = True,
    identity: Identity | None = None,
    ttl_hours: float = TTL_HOURS,
) -> Identity | None:
    """Put a token into the session's memory, starting its server on demand.

    Returns whose token it is, as the Hub says, or `identity` where it is not asked (`validate`).

    Raises:
        AccessError: the Hub refuses the token.
        NetworkError: the Hub cannot be reached.
        StorageError: the server cannot start.
    """
    if validate:
        identity = _identity(token)
    body = {
        "token": token.reveal(),
        "masked": masked(token),
        "ttl_s": ttl_hours * 3600,
        "name": identity.name if identity else None,
        "role": identity.role if identity else None,
    }
    for _ in range(ATTEMPTS):  # the first may go to a server that is just ending
        start()
        if session_socket.ask("PUT", "/token", body) is not None:
            return identity
    raise StorageError("the session server ended before it took the token", fix="nexa login")


def _identity(token: Secret) -> Identity:
    from nexa.lm.hub_access import whoami

    try:
        return whoami(token)
    except NetworkError as error:
        raise NetworkError(
            error.what,
            found=error.found,
            fix="nexa login --no-validate keeps the token without asking the Hub",
        ) from error


def logout() -> bool:
    """Forget the token and end the server; whether there was a token."""
    answer = session_socket.ask("POST", "/stop")
    return bool(answer and answer["cleared"])


def clear() -> bool:
    """Forget the token, and leave the server running; whether there was a token."""
    answer = session_socket.ask("DELETE", "/token")
    return bool(answer and answer["cleared"])


def status() -> SessionStatus:
    """Whether a server runs, and what may be told of its token."""
    answer = session_socket.ask("GET", "/status") or {}
    return SessionStatus(
        running=bool(answer),
        has_token=bool(answer.get("has_token")),
        masked=answer.get("masked"),
        name=answer.get("name"),
        role=answer.get("role"),
        expires_in_s=answer.get("expires_in_s"),
        expired=bool(answer.get("expired")),
        socket=str(session_socket.socket_path()),
    )


def start() -> SessionStatus:
    """Start the server unless one runs.

    Raises:
        StorageError: it cannot start; says why in its own words.
    """
    found, told = status(), ""
    for _ in range(ATTEMPTS):
        # One that was just ending may have kept another from starting: then it is tried again.
        if not found.running and not told:
            told = _spawn().strip()
            found = status()
    if found.running:
        return found
    raise StorageError(
        "the session server does not start",
        found=told or "it did not say why",
        fix="HF_TOKEN in the environment works without it",
    )


def _spawn() -> str:
    """Start the server as a process of its own; returns what it says until it listens."""
    reading, writing = os.pipe()
    runtime = str(session_socket.runtime_folder())
    try:
        # No Popen: the server outlives this process, and nobody waits for it.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "nexa.session"],
            {**child_environment(), "NEXA_RUNTIME": runtime},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(writing)
    with open(reading, "rb", buffering=0) as said:
        return _read_until_closed(said, time.monotonic() + START_TIMEOUT_S)


def _read_until_closed(said: BinaryIO, until_s: float) -> str:
    """What comes through a pipe until its other end is closed, or `until_s` on the clock."""
    text = b""
    while select.select([said], [], [], max(until_s - time.monotonic(), 0))[0]:
        piece = said.read(4096)
        if not piece:
            return text.decode(errors="replace")
        text += piece
    return f"{text.decode(errors='replace')}\nit was not ready in {START_TIMEOUT_S:g} s"
