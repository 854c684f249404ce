"""Small pieces of Markdown, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nexa.core.records import Interval


def cell(text: str) -> str:
    """Text that came from a user, on one line and without a way out of its table cell."""
    return re.sub(r"([|`<>])", r"\\\1", " ".join(text.split()))


def number(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def interval(value: Interval) -> str:
    """`0.812 [0.750, 0.870]`."""
    return f"{number(value.mean)} [{number(value.low)}, {number(value.high)}]"


def difference(value: Interval) -> str:
    """`+0.312 [+0.250, +0.370]`."""
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines."""
    rule = "|" + "---|" * len(head)
    return [_row(head), rule, *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
