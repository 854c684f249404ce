from __future__ import annotations

import pytest

from nexa.core.errors import EvalError
from nexa.eval.tasks.extract import by_pattern
from nexa.eval.tasks.numeric import NUMERIC, Quantity, Tolerance, numeric_task, quantity

RIGHT = {"unreadable": 0, "unit_missing": 0, "unit_wrong": 0, "value_wrong": 0}


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("3.2 km", 3.2, "km"),
        ("about 3200 m in total", 3200, "m"),
        ("9.81 m/s^2.", 9.81, "m/s**2"),
        ("5 J/(mol K)", 5, "J/(mol K)"),
        ("8.314 J / (mol·K)", 8.314, "J / (mol*K)"),
        ("25 °C", 25, "degC"),
        ("25 ° C", 25, "degC"),
        ("1.6\u00d710⁻¹⁹ C", 1.6e-19, "C"),
        ("-1.2 x 10^{-3} K", -1.2e-3, "K"),
        ("\u22125 eV", -5, "eV"),
        ("7 g cm-3", 7, "g cm**-3"),
        ("3 m s⁻¹", 3, "m s**-1"),
        ("12 m2", 12, "m**2"),
        ("1,234.5 kg", 1234.5, "kg"),
        ("5 km per hour", 5, "km per hour"),
        ("50 %", 50, "percent"),
        ("100 MPa (megapascal)", 100, "MPa"),
        ("5 electrons", 5, None),
        ("5 km/foo", 5, None),
        ("5", 5, ""),
    ],
)
def test_a_quantity_is_a_number_and_the_unit_right_behind_it(
    text: str, value: float, unit: str | None
) -> None:
    assert quantity(text) == Quantity(pytest.approx(value), unit)


def test_of_several_numbers_one_counts() -> None:
    assert quantity("3 m and 4 km") == Quantity(4, "km")
    assert quantity("3 m and 4 km", last=False) == Quantity(3, "m")
    assert quantity("9.81 m/s^2", units=False) == Quantity(9.81, "")
    assert quantity("none") is None


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("It is 3200 m.", "3.2 km"),
        ("3.2e3 m", "3.2 km"),
        ("25 °C", "298.15 K"),
        ("77 degF", "25 °C"),
        ("1 kWh", "3.6 MJ"),
        ("5 apples", "5"),
        ("1811", "1,811"),
    ],
)
def test_equal_quantities_are_right_in_any_unit(answer: str, target: str) -> None:
    made = NUMERIC.grader([target])(answer, target)
    assert (dict(made.scores), dict(made.detail)) == ({"correct": 1, "dimension": 1}, RIGHT)


@pytest.mark.parametrize(
    ("answer", "target", "reason", "dimension"),
    [
        ("3.2", "3.2 km", "unit_missing", 0),
        ("3.2 kg", "3.2 km", "unit_wrong", 0),
        ("3.2 furballs", "3.2 km", "unit_wrong", 0),
        ("no idea", "3.2 km", "unreadable", 0),
        ("3.3 km", "3.2 km", "value_wrong", 1),
    ],
)
def test_what_is_wrong_is_counted_by_its_reason(
    answer: str, target: str, reason: str, dimension: int
) -> None:
    made = NUMERIC.grader([target])(answer, target)
    assert dict(made.scores) == {"correct": 0, "dimension": dimension}
    assert dict(made.detail) == {**RIGHT, reason: 1}


@pytest.mark.parametrize(
    ("tolerance", "given", "allowed"),
    [
        (Tolerance(), 100.00001, True),
        (Tolerance(), 100.1, False),
        (Tolerance(relative=0.01), 101, True),
        (Tolerance(relative=0.01), 101.1, False),
        (Tolerance(relative=0, absolute=0.5), 100.5, True),
        (Tolerance(relative=0, absolute=0.5), 100.6, False),
        (Tolerance(relative=0, digits=2), 104, True),
        (Tolerance(relative=0, digits=3), 104, False),
        (Tolerance(relative=0, digits=3), float("inf"), False),
    ],
)
def test_a_tolerance_is_a_share_an_amount_or_digits(
    tolerance: Tolerance, given: float, allowed: bool
) -> None:
    assert tolerance.allows(given, 100) is allowed


def test_the_task_names_the_unit_of_targets_that_name_none() -> None:
    task = numeric_task(unit="K", tolerance=Tolerance(relative=0.01), last=False)
    grade = task.grader(["1811"])
    assert grade("1538 degC, that is 2800 degF", "1811").scores["correct"] == 1
    assert grade("1811", "1811").detail["unit_missing"] == 1
    assert task.fits(["1811", "1.8 kK"])
    with pytest.raises(EvalError, match="no unit that pint knows"):
        numeric_task(unit="blorp")


def test_the_part_of_an_answer_that_counts_may_be_cut_out() -> None:
    task = numeric_task(extract=by_pattern(r"answer: (.*)", 1))
    grade = task.grader(["5 m"])
    assert grade("3 m\nanswer: 5 m", "5 m").scores["correct"] == 1
    assert grade("5 m", "5 m").detail["unreadable"] == 1


@pytest.mark.parametrize("target", ["iron", "5 furballs"])
def test_a_target_that_is_no_quantity_is_refused(target: str) -> None:
    with pytest.raises(EvalError, match="no number with a unit"):
        NUMERIC.fits(["3 m", target])
    assert not NUMERIC.fits([])


def test_a_conversion_that_has_no_number_is_wrong() -> None:
    # A ratio of temperatures with an offset cannot be converted.
    made = NUMERIC.grader(["5 K/m"])("5 degC/m", "5 J")
    assert made.detail["unit_wrong"] == 1
