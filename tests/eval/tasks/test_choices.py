from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.eval.tasks.choices import MULTIPLE_CHOICE, Options, choices_task, likeliest, options
from nexa.eval.tasks.task import Likelihoods


def target(answer: Any, choices: Any = ("iron", "gold", "tin")) -> str:
    return json.dumps({"choices": choices, "answer": answer})


@pytest.mark.parametrize(("answer", "right"), [(0, 0), ("gold", 1), ("C", 2), (2, 2)])
def test_the_right_choice_is_told_by_number_text_or_letter(answer: Any, right: int) -> None:
    assert options(target(answer)) == Options(("iron", "gold", "tin"), right)


def test_a_text_is_taken_before_a_letter() -> None:
    assert options(target("A", ["B", "A"])).right == 1


def test_a_task_may_have_the_same_choices_for_all_rows() -> None:
    task = choices_task("yesno", choices=("yes", "no"))
    assert task.fits(["yes", " no "])
    assert task.continuations is not None
    assert task.continuations("no") == ("yes", "no")
    with pytest.raises(EvalError, match="none of the 2 choices"):
        task.fits(["yes", "maybe"])


@pytest.mark.parametrize(
    "odd",
    [
        "iron",
        "[1]",
        target(3),
        target(-1),
        target(True),
        target("lead"),
        target("D"),
        target(0, ["iron"]),
        target(0, ["iron", "iron"]),
        target(0, ["iron", ""]),
        target(0, "iron"),
        target(0, None),
    ],
)
def test_rows_that_are_no_multiple_choice_are_refused(odd: str) -> None:
    with pytest.raises(EvalError, match="no multiple choice"):
        MULTIPLE_CHOICE.fits([target(0), odd])
    assert not MULTIPLE_CHOICE.fits([])


def test_the_likeliest_is_chosen_in_all_and_a_byte() -> None:
    grade = MULTIPLE_CHOICE.grader([])
    answer = Likelihoods((-4.0, -6.0, -9.0), (1, 3, 2), (2, 12, 6))
    made = grade(answer, target("gold"))
    assert (made.scores["acc"], made.scores["acc_norm"]) == (0, 1)
    weights = [math.exp(x) for x in answer.nats]
    assert made.scores["probability"] == pytest.approx(weights[1] / sum(weights), abs=1e-9)
    assert made.detail == {"choices": 3}
    assert grade(answer, target("iron")).scores["acc"] == 1


def test_the_first_of_equals_is_taken() -> None:
    assert likeliest([1.0, 2.0, 2.0]) == 1


def test_very_unlikely_choices_still_have_probabilities() -> None:
    answer = Likelihoods((-5000.0, -5001.0), (1, 1), (1, 1))
    made = MULTIPLE_CHOICE.grader([])(answer, target(0, ["a", "b"]))
    assert made.scores["probability"] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-9)
