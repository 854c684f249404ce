"""A process that dies by kill -9 at the n-th touch of the file system, for n = 0, 1, 2, ...

    python -m tests.core.crash seal|commit FOLDER

forks a child for each n and lets it work in FOLDER/n. It prints the number of children that were
killed; the one after them came to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexa.core.tiers import Tiers
from tests.core.samples import seal, suite_body

# What changes the file system, or is about to.
TOUCHES = frozenset(
    {"open", "os.mkdir", "os.rename", "os.link", "os.chmod", "os.remove", "shutil.copyfile"}
)


def seal_once(folder: Path) -> None:
    """Seal a second version beside a first one that is there already."""
    tiers = Tiers.of(folder, {})
    big = folder / "scratch.bin"
    seal(tiers.store, body=suite_body(rows=2), files={"a.bin": b"new" * 9999, "b.bin": big})


def commit_once(folder: Path) -> None:
    """Replace an earlier commit by files of the same names and other contents."""
    sources = {name: folder / f"new-{name}" for name in ("a.bin", "b.bin")}
    Tiers.of(folder, {}).commit(sources, "checkpoints/run")


WORK: dict[str, Callable[[Path], None]] = {"seal": seal_once, "commit": commit_once}


def die_at(touch: int) -> None:
    """Arm this process: kill -9 just before the n-th touch."""
    count = 0

    def hook(event: str, _: tuple[Any, ...]) -> None:
        nonlocal count
        if event in TOUCHES:
            if count == touch:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(hook)


def main(work: Callable[[Path], None], folder: Path) -> int:
    """Let one child after another die; returns how many did."""
    for touch in range(1000):
        child = os.fork()
        if child == 0:
            die_at(touch)
            work(folder / str(touch))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            return touch if os.WEXITSTATUS(status) == 0 else -1
    return -1


if __name__ == "__main__":
    print(main(WORK[sys.argv[1]], Path(sys.argv[2])))
