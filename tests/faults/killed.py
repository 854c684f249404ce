"""`nexa train` in processes that die by kill -9 at moments that are named exactly.

    python -m tests.faults.killed CONFIG '[{"kind": "checkpoint.saved", "step": 10}, ...]'

One process after another runs `nexa train` on the same project. The first event that has all
fields of its point is its last: the process kills itself while the run is inside that very call,
so that nothing depends on how fast anything is. They are forked from this process, which has
imported everything and used nothing. It prints, as JSON, by which signal each of them ended;
null stands for one that came to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from nexa.core.events import Event, Sink, listening
from nexa.orchestrate.steps import STEPS
from tests.support.project import train


def dying_at(point: dict[str, Any]) -> Sink:
    """A sink that kills this process at the event."""

    def sink(event: Event) -> None:
        if all(event.get(name) == value for name, value in point.items()):
            os.kill(os.getpid(), signal.SIGKILL)

    return sink


def die(config: Path, point: dict[str, Any]) -> int | None:
    """Train in a child; returns the signal it ended by."""
    child = os.fork()
    if child == 0:
        try:
            with listening(dying_at(point)):
                train(config)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


if __name__ == "__main__":
    for step in STEPS.values():
        step.load()
    print(json.dumps([die(Path(sys.argv[1]), point) for point in json.loads(sys.argv[2])]))
