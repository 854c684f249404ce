from __future__ import annotations

from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.records import SuiteBody
from nexa.eval.tasks.definition import Definition, read_definition
from nexa.eval.tasks.perplexity import PERPLEXITY
from nexa.eval.tasks.table import (
    BUILT_IN,
    NAMED,
    TASKS,
    frozen_task,
    metrics_of,
    require_text_answers,
    task_of,
    with_metrics,
)
from nexa.eval.tasks.task import Grade, Metric, Task
from nexa.eval.tasks.text import TEXT


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


def suite(**more: Any) -> SuiteBody:
    body = {"task": "text", "metrics": ["token_f1"], "primary": "token_f1", **more}
    return SuiteBody(rows=1, groups=1, domains={}, max_new_tokens=8, **body)


@pytest.mark.parametrize("task", NAMED, ids=lambda task: task.name)
def test_other_tasks_are_taken_by_name_alone(task: Task) -> None:
    assert TASKS[task.name] is task
    assert task.primary in task.versions
    assert task_of(['{"candidates": ["a", "b"], "answer": 0}']).name == "json_record"


def test_metrics_of_texts_may_be_added_to_a_task_with_text_answers() -> None:
    assert metrics_of(TEXT, ("rougeL", "exact_match")) == ["token_f1", "exact_match", "rougeL"]
    assert metrics_of(TEXT, ("bleu",)) == ["token_f1", "bleu"]
    with pytest.raises(EvalError, match=r"no metric 'rouge3'(.|\n)*try    rouge"):
        metrics_of(TEXT, ("rouge3",))
    with pytest.raises(EvalError, match="perplexity has no metric 'bleu'"):
        metrics_of(PERPLEXITY, ("bleu",))


def test_added_metrics_are_scored_beside_the_tasks_own() -> None:
    task = with_metrics(TEXT, ["token_f1", "rougeL", "bleu"])
    assert task.versions == {"token_f1": 1, "exact_match": 1, "rougeL": 1, "bleu": 1}
    assert task.corpus == ("corpus_bleu",)
    assert set(task.signatures) == {"rougeL", "bleu"}
    made = task.grader(["iron melts"])("iron melts", "iron melts")
    assert made.scores["rougeL"] == 1
    assert set(made.statistics) == {"corpus_bleu"}
    assert with_metrics(TEXT, ["token_f1"]) is TEXT


def test_an_answer_without_the_part_that_counts_is_empty_to_added_metrics() -> None:
    content = read_definition("kind: text\nanswer: {take: last_number}\nmetrics: [rouge1]\n")
    task = frozen_task(suite(definition=content, metrics=["token_f1", "rouge1"], task="t"))
    grade = task.grader([])
    assert grade("It is 7", "7").scores["rouge1"] == 1
    assert grade("It is so", "7").scores["rouge1"] == 0


def test_a_frozen_task_needs_no_file() -> None:
    content = read_definition("kind: numeric\nunit: K\n")
    task = frozen_task(suite(definition=content, metrics=["correct"], task="points"))
    assert (task.name, task.primary) == ("points", "correct")
    assert frozen_task(suite()) is TEXT


def test_a_described_task_must_fit() -> None:
    content = read_definition("kind: text\n")
    with pytest.raises(EvalError, match="not what task 'mine' scores"):
        task_of([], Definition("mine", content, "0" * 64))
    assert task_of(["a"], Definition("mine", content, "0" * 64)).name == "mine"


def test_who_gives_no_likelihoods_is_not_asked_for_them() -> None:
    require_text_answers(suite(), "gpt")
    body = suite(task="perplexity", metrics=["token_probability"], primary="token_probability")
    with pytest.raises(EvalError, match="gpt gives none"):
        require_text_answers(body, "gpt")
