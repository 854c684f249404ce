"""`nexa merge` of whole models in processes that die by kill -9 at moments that are named exactly.

    python -m tests.faults.killed_merge PROJECT OUTPUT '[MODEL, ...]' '[{"kind": "saved"}, ...]'

As `tests.faults.killed`: one process after another makes the same merge, and the first event that
has all fields of its point is its last. It prints by which signal each of them ended.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nexa.core.events import listening
from nexa.orchestrate.exported import Exported
from nexa.orchestrate.merge import Numbers, Request, merge
from nexa.orchestrate.steps import STEPS
from tests.faults.killed import dying_at


def merge_of(project: Path, output: Path, models: Sequence[str]) -> Exported:
    """The last model is the base of a TIES merge of the others."""
    numbers = Numbers(method="ties", weights=(1.0, 0.5), densities=(0.5, 0.5))
    request = Request(
        tuple(models[:-1]), output, numbers, base_model=models[-1], dtype="float32", name="mine"
    )
    return merge(request, project)


def die(project: Path, output: Path, models: Sequence[str], point: dict[str, Any]) -> int | None:
    """Merge in a child; returns the signal it ended by."""
    child = os.fork()
    if child == 0:
        try:
            with listening(dying_at(point)):
                merge_of(project, output, models)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


if __name__ == "__main__":
    for step in STEPS.values():
        step.load()
    place, folder, named, points = sys.argv[1:]
    ends = [die(Path(place), Path(folder), json.loads(named), at) for at in json.loads(points)]
    print(json.dumps(ends))
