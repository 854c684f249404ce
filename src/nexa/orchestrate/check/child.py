"""The child process of the flight check: `python -m nexa.orchestrate.check.child`.

Lines of JSON come in on standard input: where its scratch is, and the job. Answers go out on
standard output, one line each. It holds no secret: none is in its environment, and it needs none.
It ends with its parent.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import threading
from collections.abc import Callable
from queue import Queue
from typing import Any, TextIO

from nexa.core.errors import NexaError
from nexa.orchestrate.check.report import Finding

ORPHANED = 3
# How torch says that memory could not be had; it has no class of its own for the processor.
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


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
    _limit_memory(job["memory_limit_bytes"])

    def measured(**facts: Any) -> None:
        _say(answers, {"facts": facts})

    stages = Rehearsal(job, measured).stages()
    return 0 if all(_answer(answers, name, stage) for name, stage in stages.items()) else 1


def _answer(answers: TextIO, name: str, stage: Callable[[], str]) -> bool:
    """One rehearsal and its line; whether it went well."""
    try:
        detail = stage()
    except NexaError as error:
        _say(answers, {"check": name, "finding": vars(Finding.of(name, error))})
        return False
    except (MemoryError, RuntimeError) as error:
        text = str(error) or type(error).__name__
        if isinstance(error, RuntimeError) and not any(word in text for word in NO_MEMORY):
            raise  # a mistake of Nexa's own: its traceback goes to standard error
        _say(answers, {"check": name, "capacity": text.splitlines()[0][:200]})
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


def _limit_memory(limit_bytes: int) -> None:
    """Let an allocation fail here instead of having the system kill some other program.

    Where the system does not know this limit (it is Linux's) nothing is limited.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


if __name__ == "__main__":
    # At once: Python's own end would wait for standard input, which the thread is reading.
    os._exit(main())
