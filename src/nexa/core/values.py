"""One JSON value from its bytes: a row, or why it is none; what loaders and shapes share."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_ROW_BYTES = 8 << 20  # a row of two million tokens: nothing that can be trained on
# A record is a few levels deep. Far below the depth at which Python's own recursion ends.
MAX_DEPTH = 64

# An escape that is half of a surrogate pair, or of a whole one.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Refused(ValueError):
    """A value that the parser would take and a row must not have."""


def parse(raw: bytes, *, line: int = 1) -> tuple[dict[str, Any] | None, str]:
    """(the object, "") or (None, what is wrong with it); never raises.

    `line` is where `raw` begins in its file: a mistake further down is told by its own line.
    """
    try:
        data = _decode(raw)
    except UnicodeDecodeError as error:
        return None, not_utf8(raw, error.start)
    except Refused as error:
        return None, str(error)
    except json.JSONDecodeError as error:
        row = f"line {line + error.lineno - 1}, " if error.lineno > 1 else ""
        return None, f"broken JSON: {error.msg} at {row}column {error.colno}"
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        return None, f"JSON that cannot be read: {error}"
    if not isinstance(data, dict):
        return None, f"not an object but {kind(data)}"
    return data, ""


def not_utf8(raw: bytes, at: int) -> str:
    """Which byte is no UTF-8, and where it stands in its row."""
    return f"not UTF-8: byte 0x{raw[at]:02x} at {at}"


def kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _decode(raw: bytes) -> Any:
    if len(raw) > MAX_ROW_BYTES:
        raise Refused(f"longer than {MAX_ROW_BYTES >> 20} MB")
    data = _DECODER.decode(raw.decode("utf-8"))
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and is_too_deep(data):
        raise Refused(f"lists and objects lie in each other more than {MAX_DEPTH} deep")
    # Half a surrogate pair can only come from an escape, and no file can hold it again.
    if _HALF.search(raw) and any(
        "\ud800" <= c <= "\udfff" for c in json.dumps(data, ensure_ascii=False)
    ):
        raise Refused("half a surrogate pair (\\ud800 to \\udfff): no text that can be written")
    return data


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"key {twice!r} stands there twice")
    return data


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused(f"{text[:40]} is more than a number can hold")
    return value


def _constant(name: str) -> NoReturn:
    raise Refused(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_float, parse_constant=_constant)
