from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nexa.core.records import Interval
from nexa.ui.charts import Compared, interval_chart, line_chart, share_bar, ticks


def at(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, n=10, groups=5)


def numbers(drawing: str, attribute: str) -> list[float]:
    return [float(value) for value in re.findall(rf' {attribute}="([-\d.]+)"', drawing)]


def test_dots_lie_where_the_means_are_and_bars_span_the_intervals() -> None:
    row = Compared("exact", base=at(0.0, 0.0, 0.5), tuned=at(1.0, 0.5, 1.0))

    root = ElementTree.fromstring(interval_chart([row]))

    base, tuned = (float(dot.attrib["cx"]) for dot in root.iter("circle"))
    half = (base + tuned) / 2
    bars = {
        line.attrib["class"]: (float(line.attrib["x1"]), float(line.attrib["x2"]))
        for line in root.iter("line")
        if line.attrib["class"].startswith("bar")
    }
    assert bars == {"bar base": (base, half), "bar tuned": (half, tuned)}


def test_values_outside_0_and_1_widen_the_axis() -> None:
    drawing = interval_chart([Compared("bleu", base=at(12, 8, 16), tuned=at(31, 28, 34))])

    assert max(numbers(drawing, "cx")) < 630
    assert ">30</text>" in drawing


def test_labels_are_text_and_nothing_else() -> None:
    drawing = interval_chart([Compared("<script>&", at(0, 0, 1), at(0, 0, 1), strong=True)])

    assert "<script>" not in drawing
    assert "&lt;script&gt;&amp;" in drawing


def test_a_loss_curve_has_its_raw_line_and_its_running_mean() -> None:
    root = ElementTree.fromstring(
        line_chart([(step, 5 - 0.1 * step + step % 2) for step in range(40)], label="loss")
    )

    raw, smooth = (line.attrib["points"].split() for line in root.iter("polyline"))
    assert len(raw) == len(smooth) == 40
    assert raw[0] == smooth[0]
    heights = [
        abs(float(a.split(",")[1]) - float(b.split(",")[1]))
        for a, b in zip(raw, smooth, strict=True)
    ]
    assert max(heights) > 1


@pytest.mark.parametrize("points", [[(0, 2.0)], [(0, 2.0), (1, 2.0)], [(3, 0.0), (4, 0.0)]])
def test_a_curve_without_a_slope_is_still_drawn(points: list[tuple[float, float]]) -> None:
    assert "nan" not in line_chart(points, label="loss")


def test_shares_add_up_to_the_whole_bar() -> None:
    drawing = share_bar([("kept", 30), ("a & b", 10), *[(f"r{i}", 1) for i in range(6)]], label="x")

    assert sum(numbers(drawing, "width")) == pytest.approx(760, abs=0.5)
    assert "a &amp; b: 10" in drawing
    assert share_bar([("kept", 0)], label="x")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0, 43, [0, 20, 40]), (-0.2, 0.2, [-0.2, -0.1, 0, 0.1, 0.2])],
)
def test_ticks_are_round_numbers_inside_the_range(
    low: float, high: float, expected: list[float]
) -> None:
    assert ticks(low, high, 4) == pytest.approx(expected)
