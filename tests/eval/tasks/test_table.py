from __future__ import annotations

import pytest

from nexa.core.errors import EvalError
from nexa.eval.tasks.table import BUILT_IN, TASKS, metrics_of, task_of
from nexa.eval.tasks.task import Grade, Metric, Task


def test_the_first_task_that_fits_is_taken() -> None:
    assert task_of(['{"a": 1}']).name == "json_record"
    assert task_of(['{"a": 1}', "no"]).name == "text"
    assert task_of(['{"a": 1}'], "text").name == "text"
    with pytest.raises(EvalError, match="none"):
        task_of([])


@pytest.mark.parametrize("task", BUILT_IN, ids=lambda task: task.name)
def test_a_task_grades_every_metric_it_names_from_0_to_1(task: Task) -> None:
    assert TASKS[task.name] is task
    assert task.primary in task.versions
    for answer in ("", '{"a": 1}', '{"a": 2, "b": 1}', "{}"):
        made = task.grader(['{"a": 1}'])(answer, '{"a": 1}')
        assert set(made.scores) == set(task.versions)
        assert all(0 <= score <= 1 for score in made.scores.values())


def test_the_primary_metric_cannot_be_left_out() -> None:
    metrics = tuple(Metric(name, 1, "") for name in ("a", "b", "c"))
    task = Task("t", "", metrics, "b", "p/1", bool, lambda targets: lambda a, t: Grade({}))
    assert metrics_of(task, ()) == ["a", "b", "c"]
    assert metrics_of(task, ("c",)) == ["b", "c"]
