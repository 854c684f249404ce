"""What every score carries of hazards, under the rules that are in force."""

from __future__ import annotations

import pytest

from nexa.core.errors import EvalError
from nexa.eval.safety import RULES_VERSION, marks, safety_of


def test_rows_come_to_hazards_under_the_rules_in_force() -> None:
    found = safety_of([{"id": "a", **marks("Mix bleach with ammonia.")}])

    assert found is not None
    assert (found.rules, found.red_flag_count, found.flagged_rows) == (RULES_VERSION, 1, ["a"])


def test_answers_that_were_never_given_come_to_nothing() -> None:
    assert safety_of([{"id": "a", **marks(None)}]) is None


def test_rows_without_marks_are_refused() -> None:
    with pytest.raises(EvalError, match="or are missing"):
        safety_of([{"id": "a"}])
