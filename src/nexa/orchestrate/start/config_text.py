"""config.yaml as text: every value with the reason for it beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What YAML reads as the text it is, without quotes.
PLAIN = re.compile(r"(?!(?:true|false|null|yes|no|on|off)$)[A-Za-z./_][A-Za-z0-9./_@+-]*", re.I)

HEADER = """\
# Written by `nexa init`. It trains as it stands: nexa train
# Each value has its reason beside it; change what you know better. A key that nexa does not
# know is refused with the nearest name, never passed over.
"""
PUBLISH = """\
# With this section `nexa train` publishes a run that has ended well; without it, do it by hand:
# nexa publish --repo OWNER/NAME
# publish:
#   repo: you/{name}
#   hub: local            # a folder on this machine, laid out as a Hub repository
#   private: false
#   model_card: true
#   merge_adapters: true
#   format: safetensors   # or gguf, with quantization: q8_0
"""

Value = str | int | float | bool


@dataclass(frozen=True)
class Line:
    """One key of a section, with the reason for its value."""

    key: str
    value: Value
    reason: str


def config_text(sections: Sequence[tuple[str, Sequence[Line]]], *, repo_name: str) -> str:
    """The whole file: its sections, and a `publish:` section as a comment."""
    parts = [HEADER]
    for name, lines in sections:
        parts.append(f"{name}:\n" + _aligned(lines))
    parts.append(PUBLISH.format(name=repo_name))
    return "\n".join(parts)


def scalar(value: Value) -> str:
    """A value as YAML reads it back: quoted where plain text would be something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return decimal(value)
    return value if PLAIN.fullmatch(value) else f'"{"".join(map(_escaped, value))}"'


def decimal(value: float) -> str:
    """A number as people write it in configurations: `2e-4`, `0.1`."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def _escaped(mark: str) -> str:
    """One character inside YAML's double quotes."""
    if mark in '"\\':
        return "\\" + mark
    return mark if mark.isprintable() else f"\\U{ord(mark):08x}"


def _aligned(lines: Sequence[Line]) -> str:
    left = [f"  {line.key}: {scalar(line.value)}" for line in lines]
    width = max(map(len, left))
    return "".join(
        f"{text:<{width}}  # {_comment(line.reason)}\n"
        for text, line in zip(left, lines, strict=True)
    )


def _comment(reason: str) -> str:
    """One printable line: a file's name must not end the comment and begin a key."""
    return "".join(mark if mark.isprintable() else "?" for mark in reason)
