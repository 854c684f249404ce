"""Answers that are Python code: each is run against its row's tests, confined.

A row's answer is the tests as text, or one JSON object `{"tests": "...", "before": "...",
"entry_point": "NAME"}`: `before` is run before the answer (imports, the head of a function), and
with an entry point the tests define `check(candidate)`. How a program is confined, and what that
does not keep out, is told in `nexa.eval.sandbox`.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexa.core.errors import EvalError
from nexa.eval.sandbox import Limits, run_program
from nexa.eval.tasks.extract import Extract, code
from nexa.eval.tasks.json_record import read
from nexa.eval.tasks.task import Grade, Metric, Task

METRICS = (Metric("passed", 1, "1 if the answer's code comes through its row's tests"),)
LIMITS = Limits()
KEYS = {"tests", "before", "entry_point"}


@dataclass(frozen=True)
class Exercise:
    """What stands around an answer's code."""

    tests: str
    before: str = ""
    entry_point: str = ""

    def program(self, answer: str) -> str:
        """The whole of what is run."""
        call = f"check({self.entry_point})" if self.entry_point else ""
        return "\n\n".join(part for part in (self.before, answer, self.tests, call) if part)


def exercise(target: str) -> Exercise:
    """What a row's target says.

    Raises:
        EvalError: no tests, or an object with something else in it.
    """
    value = read(target)
    if not isinstance(value, dict):
        value = {"tests": target}
    texts = all(isinstance(text, str) for text in value.values())
    if not texts or not set(value) <= KEYS or not value.get("tests", "").strip():
        raise EvalError(
            "a held-out row has no tests to run",
            found=target[:80],
            fix='{"tests": "assert ...", "before": "", "entry_point": ""}, the latter two optional',
        )
    name = value.get("entry_point", "")
    if name and not name.isidentifier():
        raise EvalError("an entry point is the name of a function", found=name[:80])
    return Exercise(**value)


def code_task(
    name: str = "code",
    about: str = "the answer is Python code that its row's tests run",
    *,
    limits: Limits = LIMITS,
    extract: Extract = code,
) -> Task:
    """A task whose answers are run; see `ScoreSpec.run_code`."""

    def grade(answer: str, target: str) -> Grade:
        part = extract(answer)
        counts = dict.fromkeys(("no_code", "failed", "timeout"), 0)
        if part is None:
            return Grade({"passed": 0.0}, {**counts, "no_code": 1})
        outcome = run_program(exercise(target).program(part), limits).outcome
        if outcome != "passed":
            counts[outcome] = 1
        return Grade({"passed": float(outcome == "passed")}, counts)

    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="passed",
        parser=f"python/1 wall_s={limits.wall_s:g} cpu_s={limits.cpu_s} "
        f"memory_mb={limits.memory_mb} file_mb={limits.file_mb}",
        fits=lambda targets: bool([exercise(target) for target in targets]),
        grader=lambda targets: grade,
        runs_code=True,
        wanted=lambda target: None,
        reader=extract,
    )


CODE = code_task()
