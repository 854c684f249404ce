"""Real session servers, in folders whose paths are short enough for a socket."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nexa.core.session_socket import SOCKET_NAME

DEADLINE_S = 60.0


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A new private folder, and its servers gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nx", dir="/tmp"))
    try:
        yield folder
    finally:
        if (pid := server_pid(folder)) not in (None, os.getpid()):
            end(pid, signal.SIGKILL)
        shutil.rmtree(folder)


def server_pid(folder: Path) -> int | None:
    """Which process listens in a runtime folder, by the kernel's word."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder / SOCKET_NAME))
        except OSError:
            return None
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iII", raw)[0])


def running_pid(folder: Path) -> int:
    """The pid of the server that is there."""
    pid = server_pid(folder)
    assert pid is not None
    return pid


def end(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal and wait for the process's end."""
    handle = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        assert select.select([handle], [], [], DEADLINE_S)[0], f"{pid} goes on after {number}"
    finally:
        os.close(handle)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def wait_until(true: Callable[[], bool]) -> None:
    """Ask again until it is so; a deadline, not a measure."""
    until = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < until, "waited in vain"
        select.select([], [], [], 0.01)


def serve_by_hand(folder: Path, **changes: str) -> subprocess.Popen[str]:
    """`python -m nexa.session` as a person would start it; listens when this returns."""
    server = subprocess.Popen(
        [sys.executable, "-m", "nexa.session"],
        env={**os.environ, "NEXA_RUNTIME": str(folder), **changes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: server.poll() is not None or server_pid(folder) is not None)
    return server
