"""Amounts as people write them: `90s`, `2h`, `6GB`."""

from __future__ import annotations

import re
from collections.abc import Mapping

SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # in seconds
SIZES = {"B": 1, "MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}  # in bytes


def with_unit(told: object, units: Mapping[str, int], plain: str) -> float | int:
    """A number, or a number and its unit, in the unit `plain`.

    Raises:
        ValueError: neither; says what is understood.
    """
    number = None if isinstance(told, bool) else _number(str(told).strip(), units, plain)
    if number is None:
        examples = ", ".join(f"2{unit}" for unit in units)
        raise ValueError(f"should be a number of {plain}, or one with a unit: {examples}")
    return number


def _number(text: str, units: Mapping[str, int], plain: str) -> float | int | None:
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    unit = (parts[2] or plain) if parts else ""
    if parts is None or unit not in units:
        return None
    number = float(parts[1]) * units[unit]
    return int(number) if number.is_integer() else number
