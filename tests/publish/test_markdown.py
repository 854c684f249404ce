from __future__ import annotations

from nexa.core.records import Interval
from nexa.publish.markdown import cell, difference, interval, table

HALF = Interval(mean=0.5, low=-0.25, high=0.75, n=4, groups=2)


def test_numbers_have_three_decimals_and_differences_a_sign() -> None:
    assert interval(HALF) == "0.500 [-0.250, 0.750]"
    assert difference(HALF) == "+0.500 [-0.250, +0.750]"


def test_a_cell_stays_one_cell_on_one_line() -> None:
    assert cell("a|b\n<i>`c`") == r"a\|b \<i\>\`c\`"


def test_a_table_is_lines() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
