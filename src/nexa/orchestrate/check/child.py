"""The child process of the flight check: `python -m nexa.orchestrate.check.child`.

Lines of JSON come in on standard input: where its scratch is, and the job. Answers go out on
standard output, one line each. It holds no secret: none is in its environment, and it needs none.
It ends with its parent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from queue import Queue
from typing import Any, TextIO

from nexa.core.errors import NexaError
from nexa.orchestrate.check.report import Finding

ORPHANED = 3


def main() -> int:
    """Answer the parent's one job; this process's standard output has nothing but the answers."""
    return serve(sys.stdin, _answers_alone(), end=os._exit)


def serve(jobs: TextIO, answers: TextIO, *, end: Callable[[int], None]) -> int:
    """Import, wait for the job, do it, answer; `end` is called as soon as `jobs` is closed.

    The first line only names the scratch folder, so that it is known from the beginning.
    """
    told: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_listen, args=(jobs, told, end), daemon=True).start()
    told.get()
    from nexa.orchestrate.check.rehearsal import Rehearsal  # while the parent looks at the data

    job = told.get()

    def measured(**facts: Any) -> None:
        _say(answers, {"facts": facts})

    stages = Rehearsal(job, measured).stages()
    return 0 if all(_answer(answers, name, stage) for name, stage in stages.items()) else 1


def _answer(answers: TextIO, name: str, stage: Callable[[], str]) -> bool:
    """One rehearsal and its line; whether it went well."""
    try:
        detail = stage()
    except (NexaError, MemoryError, RuntimeError) as error:
        from nexa.train.accumulate import lack_of_memory  # torch, which the stage has loaded

        lack = lack_of_memory(error)
        if lack is not None:
            _say(answers, {"check": name, "capacity": lack[:200]})
        elif isinstance(error, NexaError):
            _say(answers, {"check": name, "finding": vars(Finding.of(name, error))})
        else:
            raise  # a mistake of Nexa's own: its traceback goes to standard error
        return False
    _say(answers, {"check": name, "detail": detail})
    return True


def _answers_alone() -> TextIO:
    """Standard output for the answers; whatever else prints goes to standard error."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _say(answers: TextIO, told: dict[str, Any]) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()


def _listen(jobs: TextIO, told: Queue[dict[str, Any]], end: Callable[[int], None]) -> None:
    """Hand on every line; at their end the parent has closed the pipe, or is gone."""
    scratch = ""
    for line in jobs:
        job: dict[str, Any] = json.loads(line)
        scratch = job["scratch"]
        told.put(job)
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    end(ORPHANED)


if __name__ == "__main__":
    # The end comes at once: Python's own would wait for the thread that reads standard input.
    try:
        code = main()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)
