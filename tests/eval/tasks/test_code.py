from __future__ import annotations

import json

import pytest

from nexa.core.errors import EvalError
from nexa.eval.sandbox import Limits
from nexa.eval.tasks.code import CODE, Exercise, code_task, exercise

TESTS = "assert double(2) == 4"
RIGHT = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\n"


def test_code_that_comes_through_its_tests_has_passed() -> None:
    made = CODE.grader([TESTS])(RIGHT, TESTS)
    assert made.scores == {"passed": 1}
    assert made.detail == {"no_code": 0, "failed": 0, "timeout": 0}


def test_wrong_missing_and_endless_code_is_told_apart() -> None:
    grade = code_task(limits=Limits(wall_s=1.5)).grader([TESTS])
    assert grade("def double(x):\n    return x", TESTS).detail["failed"] == 1
    assert grade("```json\n{}\n```", TESTS).detail["no_code"] == 1
    assert grade("def double(x):\n    while True: pass", TESTS).detail["timeout"] == 1
    assert grade("", TESTS).scores == {"passed": 0}


def test_a_row_may_have_a_head_and_an_entry_point() -> None:
    target = json.dumps(
        {
            "before": "import math",
            "tests": "def check(candidate):\n    assert candidate(4) == 2",
            "entry_point": "root",
        }
    )
    assert exercise(target).program("x") == (
        "import math\n\nx\n\ndef check(candidate):\n    assert candidate(4) == 2\n\ncheck(root)"
    )
    grade = CODE.grader([target])
    assert grade("def root(x):\n    return math.sqrt(x)", target).scores["passed"] == 1
    assert exercise(TESTS) == Exercise(TESTS)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (" ", "no tests"),
        ("{}", "no tests"),
        ('{"tests": 1}', "no tests"),
        ('{"tests": "x", "test": "y"}', "no tests"),
        ('{"tests": "x", "entry_point": "a.b"}', "name of a function"),
    ],
)
def test_rows_without_tests_are_refused(odd: str, why: str) -> None:
    with pytest.raises(EvalError, match=why):
        CODE.fits([TESTS, odd])
    assert not CODE.fits([])


def test_nobody_knows_how_long_right_code_is() -> None:
    assert CODE.wanted(TESTS) is None
    assert CODE.runs_code
    assert "memory_mb=512" in CODE.parser
