"""Running a program that a model wrote, in a process that can do as little as possible.

What holds everywhere: a process and session of its own, Python without site-packages or
environment (`-I -S`), an empty folder that is deleted afterwards, hard limits of processor time,
memory, file size and open files, and the end of the whole process group at the wall-clock limit.
On Linux the process also gives up, for good: every file but Python's own (to read) and its folder
(Landlock), and other processes, signals to them and the network (seccomp).

What it is not: a virtual machine. The program runs on this kernel as this user; a hole in the
kernel is a hole here, and on other systems than Linux files, network and processes are as open as
to any program. So code is run only where someone asked for it, and a note says what is missing.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.eval import sandboxed

Outcome = Literal["passed", "failed", "timeout"]
TAIL_BYTES = 4096
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    wall_s: float = 10.0
    cpu_s: int = 10
    memory_mb: int = 512
    file_mb: int = 8
    open_files: int = 64

    def as_resources(self) -> dict[str, int]:
        """By the names of Python's `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_AS": self.memory_mb << 20,
            "RLIMIT_FSIZE": self.file_mb << 20,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Ran:
    """How a program ended, and the end of what it wrote."""

    outcome: Outcome
    tail: str


def run_program(program: str, limits: Limits) -> Ran:
    """Run Python code by itself; it has passed if it came to its last line.

    A program that ends early has not passed, whatever it says: the last line writes a word that
    is drawn anew each time. It stands in the program's own memory, so an answer that was written
    to cheat can find it; models that solve exercises do not.

    Raises:
        EvalError: the process could not be confined, so that nothing was run.
    """
    word, ready = secrets.token_hex(16), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="nexa-code-", ignore_cleanup_errors=True) as folder:
        own = Path(folder, "work")
        own.mkdir()
        job = {
            "program": f"{program}\n\n__import__('os').write(1, b'\\n{word}\\n')\n",
            "ready": ready,
            "limits": limits.as_resources(),
            "readable": readable_folders(),
            "writable": str(own),
        }
        with open(Path(folder, "output"), "w+b") as output:
            ended = _ran(json.dumps(job).encode(), own, output.fileno(), limits.wall_s)
            confined = os.pread(output.fileno(), len(ready), 0) == ready.encode()
            tail = _tail(output.fileno()).replace(ready, "").strip()
    if not ended:
        return Ran("timeout", tail)
    if not confined:
        raise EvalError("a program could not be confined here, and was not run", found=tail)
    passed = word in tail.splitlines()
    return Ran("passed" if passed else "failed", tail.replace(word, "").strip())


def tell_isolation() -> tuple[str, ...]:
    """What confines programs here beside limits; a note names what this system does not have."""
    means = _means()
    lacking = {
        sandboxed.LANDLOCK: "files are as open to it as to you",
        sandboxed.SECCOMP: "network and processes are open to it",
    }
    told = [text for name, text in lacking.items() if name not in means]
    if told:
        emit("note", text=f"code of answers is run here with limits only: {', '.join(told)}")
    return means


@cache
def _means() -> tuple[str, ...]:
    if not sys.platform.startswith("linux"):  # pragma: no cover  # another system
        return ()
    return sandboxed.means(os.uname().machine, ctypes.CDLL(None, use_errno=True))


@cache
def readable_folders() -> Sequence[str]:
    """Python's own modules and the system's libraries, as far as they are there."""
    paths = sysconfig.get_paths()
    places = [paths["stdlib"], paths["platstdlib"], str(Path(sys.base_exec_prefix, "lib"))]
    # A Python of the system lies in /usr, whose lib is one of the system's.
    return [place for place in dict.fromkeys([*places, *LIBRARIES]) if Path(place).is_dir()]


def _ran(job: bytes, folder: Path, output: int, wall_s: float) -> bool:
    """Whether the child ended by itself in time; whatever it left running is ended with it."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", sandboxed.__file__],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        cwd=folder,
        env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
        close_fds=True,
    )
    try:
        child.communicate(job, timeout=wall_s)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()


def _tail(output: int) -> str:
    size = os.fstat(output).st_size
    return os.pread(output, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")
