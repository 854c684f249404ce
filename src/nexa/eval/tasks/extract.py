"""The part of an answer that is compared: how it is found, and what is made alike in it."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

from nexa.core.identity import canonical_json
from nexa.eval.tasks.json_record import UNREADABLE, read

Extract = Callable[[str], str | None]  # an answer -> the part that counts; None: it is not there

# 12, -0.5, 1,234.5, .5, 6.02e23, 6.02 x 10^23 and the like with signs of Unicode.
NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d+\b|\s*[x*\u00d7\u00b7]\s*10\s*(?:\^|\*\*)\s*\{?[-+\u2212]?\d+\}?"
    r"|\s*[x*\u00d7\u00b7]\s*10[\u207a\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)?"
)
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_LONE_LETTER = re.compile(r"\s*[(*]*([A-Z])[)*]*(?:[.:,)]|\s*$|\s*\n)")
_SAID_LETTER = re.compile(r"(?i:answer|option|choice)(?i:\s+is)?\s*[:\-]?\s*[(*]*([A-Z])\b")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

Step = Literal["strip", "casefold", "punctuation", "articles", "whitespace", "unicode"]
STEPS: dict[str, Callable[[str], str]] = {
    "strip": str.strip,
    "casefold": str.casefold,
    "punctuation": lambda text: text.translate(_PUNCTUATION),
    "articles": lambda text: _ARTICLES.sub(" ", text),
    "whitespace": lambda text: " ".join(text.split()),
    "unicode": lambda text: unicodedata.normalize("NFKC", text),
}


def normalised(text: str, steps: Sequence[str]) -> str:
    """The text after these steps, one after the other."""
    for step in steps:
        text = STEPS[step](text)
    return text


def whole(text: str) -> str | None:
    """All of it."""
    return text


def first_line(text: str) -> str | None:
    """The first line that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def last_line(text: str) -> str | None:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def last_number(text: str) -> str | None:
    """The last number, as it is written."""
    found = NUMBER.findall(text)
    return str(found[-1]) if found else None


def letter(text: str) -> str | None:
    """The letter that is chosen: at the beginning, after `answer`, or in brackets, the last one."""
    if alone := _LONE_LETTER.match(text):
        return alone.group(1)
    said = _SAID_LETTER.findall(text) or _BRACKETED.findall(text)
    return str(said[-1]) if said else None


def code(text: str) -> str | None:
    """The first fenced block of Python or of no named language; without fences, all of it."""
    blocks = _FENCE.findall(text)
    wanted = [body for language, body in blocks if language.lower() in ("", "py", "python")]
    if wanted:
        return str(wanted[0])
    return None if blocks or not text.strip() else text


def by_pattern(pattern: str, group: int | str) -> Extract:
    """The last match of a regular expression: one group of it."""
    compiled = re.compile(pattern, re.MULTILINE)

    def extract(text: str) -> str | None:
        found = [match.group(group) for match in compiled.finditer(text)]
        return found[-1] if found else None

    return extract


def by_pointer(pointer: str) -> Extract:
    """What stands at a JSON Pointer (RFC 6901) of an answer that is one JSON value."""
    steps = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]

    def extract(text: str) -> str | None:
        value = read(text)
        for step in steps:
            value = _below(value, step)
        if value is UNREADABLE:
            return None
        return value if isinstance(value, str) else canonical_json(value).decode()

    return extract


def _below(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, UNREADABLE)
    if isinstance(value, list) and re.fullmatch("0|[1-9][0-9]*", step) and int(step) < len(value):
        return value[int(step)]
    return UNREADABLE


NAMED: dict[str, Extract] = {
    "whole": whole,
    "first_line": first_line,
    "last_line": last_line,
    "last_number": last_number,
    "letter": letter,
    "code": code,
}
