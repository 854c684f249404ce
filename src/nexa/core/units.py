"""Amounts as people write them: `90s`, `1h30m`, `6GB`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

SPANS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}  # in seconds
# In bytes. Decimal, as disks and the Hub count; `Ki`, `Mi`, `Gi` where somebody means those.
SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def seconds(told: object) -> float:
    """`90`, `90s`, `30m`, `2 h`, `1h30m` in seconds.

    Raises:
        ValueError: it is none of these; says what is understood.
    """
    found = _sum(told, SPANS, "s")
    if found is None:
        raise ValueError("should be a number of seconds, or one with its unit: 90s, 30m, 2h, 1d")
    return found


def size_bytes(told: object) -> float:
    """`6GB`, `800 MB`, `5.5GiB` or a plain number, in bytes.

    Raises:
        ValueError: it is none of these; says what is understood.
    """
    found = _sum(told, SIZES, "B")
    if found is None:
        raise ValueError("should be a number of bytes, or one with its unit: 800MB, 6GB, 5.5GiB")
    return found


def _sum(told: object, units: Mapping[str, int], plain: str) -> float | None:
    """The sum of a text's parts, or None; upper and lower case are one."""
    factors = {unit.lower(): factor for unit, factor in units.items()}
    text = "" if isinstance(told, bool) else str(told).strip()
    parts = PART.findall(text)
    whole = "".join(match.group() for match in PART.finditer(text)) == text
    if not parts or not whole or any((unit or plain).lower() not in factors for _, unit in parts):
        return None
    if len(parts) > 1 and not all(unit for _, unit in parts):
        return None  # `1 30m`: of what is the first?
    total = math.fsum(float(number) * factors[(unit or plain).lower()] for number, unit in parts)
    return int(total) if total.is_integer() else total
