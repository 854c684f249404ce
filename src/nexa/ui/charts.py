"""Small charts as inline SVG: intervals, a line, shares, points in two dimensions.

Colours and fonts come from the page's CSS by class, so that one drawing serves light and dark.
Coordinates are in the units of the `viewBox`; every text goes through `escape`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nexa.core.records import Interval

WIDTH = 760
LABEL_WIDTH = 190
NUMBERS_WIDTH = 130
ROW_HEIGHT = 46
DOT_HEIGHT = 28
LABEL_CHARACTERS = 28  # of a model's name, beside its dot; its title has all of it
LOGARITHMIC_FROM = 20
SMOOTH_SHARE = 1 / 15  # of all steps: how far the loss curve's running mean looks back


@dataclass(frozen=True)
class Compared:
    """One line of the interval chart: base against tuned."""

    label: str
    base: Interval
    tuned: Interval
    strong: bool = False


def interval_chart(rows: Sequence[Compared]) -> str:
    """Means as dots, 95 % intervals as bars: base hollow, tuned filled, one line a metric."""
    low = min(0.0, *(i.low for row in rows for i in (row.base, row.tuned)))
    high = max(1.0, *(i.high for row in rows for i in (row.base, row.tuned)))
    left, right = LABEL_WIDTH, WIDTH - NUMBERS_WIDTH
    height = len(rows) * ROW_HEIGHT + 26

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for tick in ticks(low, high, 4):
        parts.append(_line(x(tick), 4, x(tick), height - 22, "grid"))
        parts.append(_text(x(tick), height - 6, _short(tick), "axis", "middle"))
    for index, row in enumerate(rows):
        y = index * ROW_HEIGHT + ROW_HEIGHT / 2 + 2
        parts.append(_text(0, y + 4, row.label, "label strong" if row.strong else "label"))
        parts.append(_line(x(row.base.mean), y, x(row.tuned.mean), y, "link"))
        for interval, side, dy in ((row.base, "base", -7), (row.tuned, "tuned", 7)):
            parts.append(_line(x(interval.low), y + dy, x(interval.high), y + dy, f"bar {side}"))
            title = f"{side}: {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
            parts.append(_dot(x(interval.mean), y + dy, side, f"{row.label}, {title}"))
        numbers = f"{row.base.mean:.3f} → {row.tuned.mean:.3f}"
        parts.append(_text(WIDTH, y + 4, numbers, "numbers", "end"))
    return _svg(height, parts, "Base against tuned, with 95 % intervals")


@dataclass(frozen=True)
class Dot:
    """One line of `dot_chart`, or one point of `scatter` (`x` is its place there).

    `kind` is a class of the page's style: tuned (filled) or base (hollow).
    """

    label: str
    found: Interval
    kind: str = "tuned"
    x: float = 0.0


def dot_chart(rows: Sequence[Dot], *, label: str) -> str:
    """Means as dots, 95 % intervals as bars, one line each."""
    low = min(0.0, *(row.found.low for row in rows))
    high = max(1.0, *(row.found.high for row in rows))
    left, right = LABEL_WIDTH, WIDTH - NUMBERS_WIDTH
    height = len(rows) * DOT_HEIGHT + 26

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for tick in ticks(low, high, 4):
        parts.append(_line(x(tick), 4, x(tick), height - 22, "grid"))
        parts.append(_text(x(tick), height - 6, _short(tick), "axis", "middle"))
    for index, row in enumerate(rows):
        y, found = index * DOT_HEIGHT + DOT_HEIGHT / 2 + 2, row.found
        numbers = f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
        parts.append(_text(0, y + 4, _fitting(row.label), "label"))
        parts.append(_line(x(found.low), y, x(found.high), y, f"bar {row.kind}"))
        parts.append(_dot(x(found.mean), y, row.kind, f"{row.label}: {numbers}"))
        parts.append(_text(WIDTH, y + 4, f"{found.mean:.3f}", "numbers", "end"))
    return _svg(height, parts, label)


def scatter(points: Sequence[Dot], *, x_label: str, y_label: str, label: str) -> str:
    """Points with their intervals upright; those of the kind tuned are joined, in order of x.

    The x axis is logarithmic where the values span more than a factor of 20.
    """
    height, left, right, top, bottom = 300, 46, WIDTH - 8, 22, 250
    values = [point.x for point in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > LOGARITHMIC_FROM
    scale = math.log10 if logarithmic else float
    first, last = scale(min(values)), scale(max(values))
    pad = (last - first) * 0.08 or abs(last) * 0.5 or 0.5
    first = first - pad if logarithmic or first < 0 else max(first - pad, 0.0)
    last += pad
    low = min(0.0, *(point.found.low for point in points))
    high = max(1.0, *(point.found.high for point in points))

    def x(value: float) -> float:
        return left + (scale(value) - first) / (last - first) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [_text(0, 10, y_label, "axis"), _text(right, height - 8, x_label, "axis", "end")]
    for tick in ticks(low, high, 4):
        parts.append(_line(left, y(tick), right, y(tick), "grid"))
        parts.append(_text(left - 8, y(tick) + 4, _short(tick), "axis", "end"))
    for tick in _decades(10**first, 10**last) if logarithmic else ticks(first, last, 5):
        parts.append(_text(x(tick), bottom + 20, _short(tick), "axis", "middle"))
    joined = sorted((p for p in points if p.kind == "tuned"), key=lambda p: p.x)
    path = " ".join(f"{x(p.x):.1f},{y(p.found.mean):.1f}" for p in joined)
    parts.append(f'<polyline class="smooth" points="{path}"/>')
    numbers: dict[tuple[str, str], list[str]] = {}
    for number, point in enumerate(points, 1):
        place_of = (f"{x(point.x) + 8:.0f}", f"{y(point.found.mean) - 7:.0f}")
        numbers.setdefault(place_of, []).append(str(number))
    for point in points:
        px, found = x(point.x), point.found
        told = f"{point.label}: {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
        parts.append(_line(px, y(found.low), px, y(found.high), f"bar {point.kind}"))
        parts.append(_dot(px, y(found.mean), point.kind, f"{told} at {point.x:.4g}"))
    for (px_told, py_told), told_here in numbers.items():
        parts.append(_text(float(px_told), float(py_told), ", ".join(told_here), "label"))
    return _svg(height, parts, label)


def line_chart(points: Sequence[tuple[float, float]], *, label: str) -> str:
    """Values over steps: the raw line thin, its running mean strong."""
    height, left, right, top, bottom = 240, 46, WIDTH - 8, 12, 208
    values = [value for _, value in points]
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or 0.5
    low, high = max(0.0, low - pad), high + pad
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def place(step: float, value: float) -> str:
        px = left + (step - first) / (last - first) * (right - left)
        return f"{px:.1f},{bottom - (value - low) / (high - low) * (bottom - top):.1f}"

    parts = []
    for tick in ticks(low, high, 4):
        y = float(place(first, tick).split(",")[1])
        parts.append(_line(left, y, right, y, "grid"))
        parts.append(_text(left - 8, y + 4, _short(tick), "axis", "end"))
    for tick in ticks(first, last, 6):
        px = float(place(tick, low).split(",")[0])
        parts.append(_text(px, bottom + 20, _short(tick), "axis", "middle"))
    smooth = _running_mean(values)
    for kind, series in (("raw", values), ("smooth", smooth)):
        steps = zip(points, series, strict=True)
        path = " ".join(place(step, value) for (step, _), value in steps)
        parts.append(f'<polyline class="{kind}" points="{path}"/>')
    return _svg(height, parts, label)


def share_bar(shares: Sequence[tuple[str, int]], *, label: str) -> str:
    """One bar cut into parts in proportion; the first part is what was kept."""
    total = sum(count for _, count in shares) or 1
    parts = []
    x = 0.0
    for index, (name, count) in enumerate(shares):
        width = count / total * WIDTH
        parts.append(
            f'<rect class="share s{min(index, 5)}" x="{x:.1f}" y="0" width="{width:.1f}" '
            f'height="14"><title>{escape(name)}: {count}</title></rect>'
        )
        x += width
    return _svg(14, parts, label)


def histogram(values: Sequence[int], *, bins: int = 30, label: str) -> str:
    """How many values lie in each of equally wide ranges; the axis ends at the largest."""
    height, bottom, top = 150, 122, 18
    highest = max(values)
    size = max(1, math.ceil(highest / bins))
    counts = [0] * (highest // size + 1)
    for value in values:
        counts[value // size] += 1
    width = WIDTH / len(counts)
    parts = []
    for number, count in enumerate(counts):
        tall = count / max(counts) * (bottom - top)
        title = f"{number * size} to {(number + 1) * size - 1}: {count}"
        parts.append(
            f'<rect class="column" x="{number * width:.1f}" y="{bottom - tall:.1f}" '
            f'width="{max(width - 1, 0.5):.1f}" height="{tall:.1f}"><title>{title}</title></rect>'
        )
    for tick in ticks(0, max(highest, 1), 6):
        parts.append(_text(tick / (size * len(counts)) * WIDTH, height - 8, _short(tick), "axis"))
    return _svg(height, parts, label)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers inside `[low, high]`, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if raw <= power * m * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Ones, twos and fives of each power of ten in `[low, high]`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _running_mean(values: Sequence[float]) -> list[float]:
    """An exponential mean that starts unbiased (as Adam's moments are corrected)."""
    past = 1 - 1 / max(1.0, len(values) * SMOOTH_SHARE)
    mean, found = 0.0, []
    for count, value in enumerate(values, 1):
        mean = past * mean + (1 - past) * value
        found.append(mean / (1 - past**count))
    return found


def _fitting(label: str) -> str:
    """A label with its middle left out where it is too long: a name's two ends tell it apart."""
    if len(label) <= LABEL_CHARACTERS:
        return label
    half = LABEL_CHARACTERS // 2
    return f"{label[: half - 1]}…{label[-half:]}"


def _short(value: float) -> str:
    return f"{value:g}"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, kind: str, title: str) -> str:
    return (
        f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
        f"<title>{escape(title)}</title></circle>"
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    opening = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{opening}{''.join(parts)}</svg>"
