"""Whether answers are the same, and whether a record's values stand in the text they are from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nexa.core import values
from nexa.core.overlap import normalise
from nexa.feedback.items import Item

EXTRACTED = 0.9  # share of rows whose answers stand in their questions, from which all shall
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def record_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, or None."""
    found, _ = values.parse(text.strip().encode(errors="surrogatepass"))
    return found


def same(one: str, other: str) -> bool:
    """Whether two answers say the same: equal as JSON (1 is 1.0), else letter for letter.

    Blanks and case of a text do not count.
    """
    first, second = record_of(one), record_of(other)
    if first is None or second is None:
        return normalise(one).casefold() == normalise(other).casefold()
    return bool(_plain(first) == _plain(second))


def in_form(answer: str, example: str) -> str:
    """A record with its names in the order of the example's, where they are the same names."""
    found, form = record_of(answer), record_of(example)
    if found is None or form is None or set(found) != set(form):
        return answer.strip()
    return json.dumps({name: found[name] for name in form}, ensure_ascii=False)


def not_found(question: str, answer: str) -> str | None:
    """The first value of a record that does not stand in the question; None: all do.

    A number stands there with any zeros behind it, a text in any case and with any blanks; null,
    true and false say what does not stand there.
    """
    record = record_of(answer)
    told = normalise(question).casefold()
    figures = {float(found) for found in _NUMBER.findall(told)}
    # A dash before a number may be a hyphen or the end of a range.
    figures |= {-figure for figure in figures if figure < 0}
    for value in _scalars(record):
        if isinstance(value, str):
            stands = normalise(value).casefold() in told
        else:
            stands = float(value) in figures
        if not stands:
            return str(value)
    return None


def extracts(items: Sequence[Item]) -> bool:
    """Whether these rows are records whose values stand in what is asked."""
    records = [item for item in items if record_of(item.answer) is not None]
    standing = sum(not_found(item.asked, item.answer) is None for item in records)
    return len(records) == len(items) > 0 and standing >= EXTRACTED * len(items)


def _scalars(value: Any) -> Iterator[str | int | float]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _scalars(item)
    elif value is not None and not isinstance(value, bool):
        yield value


def _plain(value: Any) -> Any:
    """Equal for what JSON takes as equal: true is not 1, and 1 is 1.0."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return ("true or false", value)
    return normalise(value) if isinstance(value, str) else value
