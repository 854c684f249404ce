"""`nexa improve` in processes that die by kill -9 at moments that are named exactly.

    python -m tests.faults.killed_improve FOLDER '["improve", ...]'

For each line of its input, a point in JSON as in `tests.faults.killed` or `null`, it forks a child
that runs the command in FOLDER, waits for its end, and prints by which signal it ended (null: by
none) and with which exit code. It has imported everything and used nothing.
"""

from __future__ import annotations

import json
import os
import sys

from nexa.orchestrate.improve import loop
from nexa.orchestrate.steps import STEPS
from tests.faults.killed_augment import begin

NEEDED = loop

if __name__ == "__main__":
    for step in STEPS.values():
        if not step.name.startswith("harness"):  # which need an extra
            step.load()
    os.chdir(sys.argv[1])
    for line in sys.stdin:
        pid = begin(json.loads(sys.argv[2]), json.loads(line))
        _, status = os.waitpid(pid, 0)
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        print(json.dumps([signal, code]), flush=True)
