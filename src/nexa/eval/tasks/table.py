"""The visible table of tasks. A new one is a file here and a line below, or an entry point."""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.errors import EvalError, nearest
from nexa.core.plugins import Registry
from nexa.eval.tasks.json_record import JSON_RECORD
from nexa.eval.tasks.task import Task
from nexa.eval.tasks.text import TEXT

BUILT_IN = (JSON_RECORD, TEXT)  # inferred in this order: the first that fits

TASKS: Registry[Task] = Registry("task", {task.name: task for task in BUILT_IN})


def task_of(targets: Sequence[str], name: str = "auto") -> Task:
    """The task named, or under `auto` the first built-in one that the targets are of.

    Raises:
        UnknownPlugin: no task has this name.
        EvalError: the targets are not of that kind.
    """
    if name == "auto":
        found = next((task for task in BUILT_IN if task.fits(targets)), None)
    else:
        found = TASKS[name] if TASKS[name].fits(targets) else None
    if found is None:
        raise EvalError(
            f"the held-out answers are not what task {name!r} scores",
            found=f"{len(targets)} answers, the first: {targets[0][:60]!r}" if targets else "none",
            fix="leave eval.task out, so that it is inferred",
        )
    return found


def metrics_of(task: Task, asked: Sequence[str]) -> list[str]:
    """The metrics asked for, the primary one always among them; all of the task's if none is.

    Raises:
        EvalError: the task has no such metric; says the nearest.
    """
    for name in asked:
        if name not in task.versions:
            near = nearest(name, task.versions)
            raise EvalError(
                f"task {task.name} has no metric {name!r}",
                found=", ".join(task.versions),
                fix=near,
            )
    return [name for name in task.versions if not asked or name in asked or name == task.primary]
