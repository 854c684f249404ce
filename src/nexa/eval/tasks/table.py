"""The visible table of tasks. A new one is a file here and a line below, or an entry point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nexa.core.errors import EvalError, nearest
from nexa.core.plugins import Registry
from nexa.core.records import SuiteBody
from nexa.eval.tasks.choices import MULTIPLE_CHOICE
from nexa.eval.tasks.classification import CLASSIFICATION
from nexa.eval.tasks.code import CODE
from nexa.eval.tasks.definition import Definition, built
from nexa.eval.tasks.json_record import JSON_RECORD
from nexa.eval.tasks.numeric import NUMERIC
from nexa.eval.tasks.perplexity import PERPLEXITY
from nexa.eval.tasks.ranking import RANKING
from nexa.eval.tasks.similarity import METRICS, TextMetric, statistics_of
from nexa.eval.tasks.task import Grade, Grader, Task
from nexa.eval.tasks.text import TEXT

BUILT_IN = (JSON_RECORD, TEXT)  # inferred in this order: the first that fits
NAMED = (MULTIPLE_CHOICE, CLASSIFICATION, RANKING, PERPLEXITY, NUMERIC, CODE)  # by name only

TASKS: Registry[Task] = Registry("task", {task.name: task for task in (*BUILT_IN, *NAMED)})


def task_of(targets: Sequence[str], asked: str | Definition = "auto") -> Task:
    """The task named or described, or under `auto` the first that the targets are of.

    Raises:
        UnknownPlugin: no task has this name.
        EvalError: the targets are not of that kind.
    """
    if isinstance(asked, Definition):
        named = built(asked.name, asked.content)
    else:
        named = (
            next((t for t in BUILT_IN if t.fits(targets)), TEXT)
            if asked == "auto"
            else TASKS[asked]
        )
    if not named.fits(targets):
        name = asked.name if isinstance(asked, Definition) else asked
        raise EvalError(
            f"the held-out answers are not what task {name!r} scores",
            found=f"{len(targets)} answers, the first: {targets[0][:60]!r}" if targets else "none",
            fix="leave eval.task out, so that it is inferred",
        )
    return named


def metrics_of(task: Task, asked: Sequence[str]) -> list[str]:
    """The metrics asked for, the primary one always among them; all of the task's if none is.

    Of a task whose answers are texts those of `similarity.METRICS` may be asked for, too.

    Raises:
        EvalError: there is no such metric for the task; says the nearest.
        BrokenPlugin: an installed package promises it and cannot give it.
    """
    own, wanted = task.versions, dict.fromkeys([*asked, task.primary])
    further = [name for name in wanted if name not in own]
    for name in further:
        if task.by_likelihood or name not in METRICS:
            known = [*own] if task.by_likelihood else [*own, *METRICS.names()]
            raise EvalError(
                f"task {task.name} has no metric {name!r}",
                found=", ".join(known),
                fix=nearest(name, known),
            )
    chosen = [name for name in own if not asked or name in wanted]
    return [*chosen, *further]


def with_metrics(task: Task, names: Sequence[str]) -> Task:
    """The task with those of these metrics that are not its own."""
    further = {name: METRICS[name] for name in names if name not in task.versions}
    if not further:
        return task
    return replace(
        task,
        metrics=(*task.metrics, *(each.metric for each in further.values())),
        corpus=(*task.corpus, *(each.corpus for each in further.values() if each.corpus)),
        grader=lambda targets: _marked(task, task.grader(targets), further),
        signatures={
            **task.signatures,
            **{name: each.signature() for name, each in further.items() if each.signature},
        },
    )


def frozen_task(suite: SuiteBody) -> Task:
    """The task that a suite is scored by: what was frozen into it, or the one of its name.

    Raises:
        UnknownPlugin: no task or metric has this name any more.
        EvalError: what was frozen makes no task.
    """
    described = suite.definition
    task = TASKS[suite.task] if described is None else built(suite.task, described)
    return with_metrics(task, suite.metrics)


def require_text_answers(suite: SuiteBody, who: str) -> None:
    """Refuse to ask for text where the task is scored by likelihoods.

    Raises:
        EvalError: it is; `who` gives none.
    """
    if frozen_task(suite).by_likelihood:
        raise EvalError(
            f"task {suite.task} is scored by likelihoods, and {who} gives none",
            fix="name a model of this machine, or a task whose answers are text",
        )


def _marked(task: Task, grade: Grader, further: Mapping[str, TextMetric]) -> Grader:
    """Grades with more metrics: of the part of an answer that the task reads, "" for none."""

    def marked(answer: Any, target: str) -> Grade:
        made, text = grade(answer, target), task.reader(answer) or ""
        scores = {name: each.mark(text, target) for name, each in further.items()}
        return replace(
            made,
            scores={**made.scores, **scores},
            statistics={**made.statistics, **statistics_of(further, text, target)},
        )

    return marked
