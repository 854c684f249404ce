from __future__ import annotations

import pytest

from nexa.core.errors import EvalError
from nexa.eval.tasks.classification import CLASSIFICATION, classification_task
from nexa.eval.tasks.extract import letter
from nexa.eval.tasks.task import Likelihoods


def test_a_label_is_right_wrong_or_none() -> None:
    grade = CLASSIFICATION.grader(["metal", "gas", "metal"])
    right = grade(" Metal\n", "metal")
    assert right.scores == {"accuracy": 1, "readable": 1}
    assert right.statistics == {"label": "metal", "given": "metal"}
    wrong = grade("gas", "metal")
    assert (wrong.scores["accuracy"], wrong.statistics["given"]) == (0, "gas")
    lost = grade("I do not know", "metal")
    assert lost.scores == {"accuracy": 0, "readable": 0}
    assert (lost.detail, lost.statistics["given"]) == ({"unreadable": 1}, None)


def test_the_label_may_be_cut_out_of_the_answer() -> None:
    task = classification_task(labels=("A", "B"), extract=letter, normalise=())
    grade = task.grader([])
    assert grade("The answer is (B).", "B").scores["accuracy"] == 1
    assert grade("neither", "B").scores == {"accuracy": 0, "readable": 0}


def test_the_likeliest_label_may_be_the_answer() -> None:
    task = classification_task(labels=("metal", "gas"), by_likelihood=True)
    assert task.continuations is not None
    assert task.continuations("gas") == ("metal", "gas")
    made = task.grader([])(Likelihoods((-3.0, -2.0), (1, 1), (5, 3)), "gas")
    assert made.scores["accuracy"] == 1
    with pytest.raises(EvalError, match="must be named"):
        classification_task(by_likelihood=True)


def test_targets_that_are_no_label_are_refused() -> None:
    task = classification_task(labels=("metal", "gas"))
    assert task.fits(["metal", "GAS"])
    with pytest.raises(EvalError, match=r"'metall' is none of the task's labels(.|\n)*metal"):
        task.fits(["metal", "metall"])
    assert not CLASSIFICATION.fits(["one", "one"])
    assert CLASSIFICATION.fits(["one", "two"])
