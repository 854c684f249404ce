"""`nexa` commands in processes that are killed by whoever watches them.

    python -m tests.faults.killed_augment '["data", "augment", ...]'

It imports everything once. For each line of its input, a point in JSON as in `tests.faults.killed`
or `null`, it forks a child that runs the command, prints the child's process id, and, when the
child has ended, by which signal (null: by none) and with which exit code.
"""

from __future__ import annotations

import json
import os
import sys

from nexa.cli.main import main
from nexa.core.events import listening
from nexa.orchestrate import augment, distill
from nexa.orchestrate.steps import STEPS
from tests.faults.killed import dying_at

NEEDED = (augment, distill)


def begin(words: list[str], point: dict[str, object] | None) -> int:
    """Run the command in a child; returns its process id."""
    child = os.fork()
    if child == 0:
        code = 70
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        try:
            with listening(*([dying_at(point)] if point else [])):
                code = main(words)
        finally:
            os._exit(code)
    return child


if __name__ == "__main__":
    for step in STEPS.values():
        step.load()
    for line in sys.stdin:
        pid = begin(json.loads(sys.argv[1]), json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        print(json.dumps([signal, code]), flush=True)
