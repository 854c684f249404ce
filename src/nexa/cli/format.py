"""Text and numbers as they are shown: cleaned of what could steer a terminal, with their units."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from nexa.core.secrets import redact

# C0 without newline and tab, DEL, C1, and the marks that turn the reading direction around.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
JSON_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class HasInterval(Protocol):
    """A number with its uncertainty, as `nexa.core.records.Interval`."""

    mean: float
    low: float
    high: float


def clean(text: str) -> str:
    """`text` without secrets, and with its control characters made visible as backslash codes."""
    return CONTROL.sub(lambda found: ascii(found.group())[1:-1], redact(text))


def to_json(value: Any) -> str:
    """`value` as JSON that is safe to print: secrets redacted, control characters escaped."""
    text = redact(json.dumps(value, ensure_ascii=False, indent=2, default=str))
    return JSON_UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def size(size_bytes: float) -> str:
    """Bytes in decimal units, as disks and the Hub count them: `1.2 GB`."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:  # else it would be rounded to 1000.0
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as one would say them: `0.4 s`, `43 s`, `3 min 28 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval(value: HasInterval) -> str:
    """A score with its interval: `0.81 [0.72, 0.89]`."""
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def number(value: float) -> str:
    """A number in at most four significant digits, with thousands set apart: `1,234`, `0.2135`."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def rate(value: float) -> str:
    """A learning rate as people write it: `2e-4`, `1.5e-3`."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}" if value else "0"
