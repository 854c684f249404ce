from __future__ import annotations

from nexa.cli.eval_docs import (
    EVAL_PARTS,
    criteria_table,
    flag_table,
    generator_table,
    metric_table,
    task_table,
)
from nexa.eval import fence
from nexa.eval.rubrics.reading import load_rubric
from nexa.eval.tasks.table import BUILT_IN, NAMED
from nexa.feedback.feedback_generators.registry import BUILT_IN as BUILT_IN_GENERATORS


def test_every_task_is_a_row_with_its_metrics() -> None:
    table = task_table()
    tasks = (*BUILT_IN, *NAMED)
    assert table.count("\n| `") == len(tasks)
    for task in tasks:
        assert f"| `{task.name}` | {task.about} | `{task.primary}` |" in table
        assert all(f"`{metric}`" in table for metric in task.versions)


def test_every_metric_is_a_row_with_its_version() -> None:
    table = metric_table()
    assert table.count("\n| `") == sum(len(task.metrics) for task in (*BUILT_IN, *NAMED))
    assert "| `json_record` | `" in table


def test_every_criterion_is_a_row_with_the_words_of_its_levels() -> None:
    rubric, table = load_rubric(), criteria_table()
    assert table.count("\n| `") == len(rubric.criteria)
    for criterion in rubric.criteria:
        assert all(words in table for words in criterion.levels)
    assert rubric.sha256 in table


def test_every_flag_is_a_row() -> None:
    kinds = (fence.INVISIBLE, fence.CONTROL, fence.FENCE, fence.TURN, fence.VERDICT, fence.ORDER)
    assert all(f"| {kind} | " in flag_table() for kind in kinds)
    assert all(len(line.replace("\\|", "").split("|")) == 4 for line in flag_table().splitlines())


def test_every_generator_is_a_row_that_says_whether_a_teacher_is_asked() -> None:
    table = generator_table()
    assert table.count("\n| `") == len(BUILT_IN_GENERATORS)
    assert "| `pool` | unused rows of weak slices, spread over groups | no |" in table
    assert all(f"| `{name}` | " in table for name in BUILT_IN_GENERATORS)
    assert table.count("| yes |") == 3


def test_the_parts_are_those_of_the_document() -> None:
    assert set(EVAL_PARTS) == {"tasks", "metrics", "criteria", "flags", "generators"}
