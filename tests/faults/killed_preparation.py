"""`nexa data prepare` in processes that die by kill -9 at a moment that is counted exactly.

    python -m tests.faults.killed_preparation '[["CONFIG", 17, 0], ["CONFIG", null, 2], ...]'

Each is a config.yaml, the number of the event that is the process's last (null: it comes to its
end), and whether the rows are read by processes of their own. It prints, as JSON, by which signal
each of them ended, and how many events there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from nexa.cli.main import main
from nexa.core.events import Event, listening
from nexa.data.engine import staged
from nexa.orchestrate.steps import STEPS


def prepare(config: str, last: int | None, *, processes: bool, told: int) -> None:
    """The command itself; `told` is where the number of its events is written."""
    count = 0

    def hear(_: Event) -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    if processes:
        staged.SMALL_BYTES = 0
    sys.argv = ["nexa", "data", "prepare", config, "--json"]
    os.chdir(os.path.dirname(config))
    try:
        with listening(hear):
            main()
    finally:
        os.write(told, str(count).encode())


def die(config: str, last: int | None, processes: bool) -> tuple[int | None, int]:
    """Prepare in a child; the signal it ended by, and the events it came to."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare(config, last, processes=processes, told=writes)
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else None), int(told or 0)


if __name__ == "__main__":
    for step in STEPS.values():
        step.load()
    devnull = os.open(os.devnull, os.O_WRONLY)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(devnull, 1)
    json.dump([die(*job) for job in json.loads(sys.argv[1])], answers)
