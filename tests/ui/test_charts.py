from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from nexa.core.records import Interval
from nexa.ui.charts import (
    Compared,
    Dot,
    dot_chart,
    histogram,
    interval_chart,
    line_chart,
    scatter,
    share_bar,
    ticks,
)


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


def test_a_dot_chart_has_a_line_a_model_and_cuts_long_names_in_the_middle() -> None:
    long = "a-name-of-a-model-that-is-much-too-long-to-be-shown"
    drawing = dot_chart(
        [Dot("short", at(0.5, 0.25, 1.0)), Dot(long, at(0.25, 0.0, 0.5), "base")], label="x"
    )

    root = ElementTree.fromstring(drawing)
    dots = [dot.attrib["class"] for dot in root.iter("circle")]
    assert dots == ["dot tuned", "dot base"]
    assert ">a-name-of-a-m…ng-to-be-shown</text>" in drawing
    assert f"{long}: 0.250 [0.000, 0.500]" in drawing


def test_a_scatter_joins_the_front_and_numbers_its_points() -> None:
    points = [
        Dot("dear", at(0.9, 0.8, 1.0), "tuned", 4.0),
        Dot("cheap", at(0.5, 0.4, 0.6), "tuned", 1.0),
        Dot("<bad>", at(0.4, 0.3, 0.5), "base", 4.0),
        Dot("twin", at(0.4, 0.3, 0.5), "base", 4.0),
    ]

    drawing = scatter(points, x_label="dollars", y_label="score", label="x")

    root = ElementTree.fromstring(drawing)
    centres = [float(dot.attrib["cx"]) for dot in root.iter("circle")]
    assert centres[1] < centres[0] == centres[2]
    [front] = root.iter("polyline")
    assert [p.split(",")[0] for p in front.attrib["points"].split()] == [
        f"{centres[1]:.1f}",
        f"{centres[0]:.1f}",
    ]
    assert "<bad>" not in drawing
    assert ">3, 4</text>" in drawing


@pytest.mark.parametrize("xs", [[0.0], [0.0, 0.0], [0.001, 5.0], [-2.0, 3.0], [7.0]])
def test_a_scatter_has_room_for_its_points_whatever_they_span(xs: list[float]) -> None:
    points = [Dot("m", at(0.5, 0.4, 0.6), "tuned", x) for x in xs]

    drawing = scatter(points, x_label="x", y_label="y", label="z")

    assert "nan" not in drawing
    assert all(0 <= cx <= 760 for cx in numbers(drawing, "cx"))
    ticks_shown = re.findall(r'text-anchor="middle">([^<]+)<', drawing)
    assert len(ticks_shown) >= 2
    assert min(xs) < 0 or not any(tick.startswith("-") for tick in ticks_shown)


def test_a_histogram_counts_every_value_once() -> None:
    drawing = histogram([0, 1, 1, 59], bins=30, label="x")

    told = re.findall(r"<title>(\d+) to (\d+): (\d+)</title>", drawing)
    assert sum(int(count) for _, _, count in told) == 4
    assert told[0] == ("0", "1", "3")
    assert told[-1] == ("58", "59", "1")
