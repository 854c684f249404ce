"""A filter of one's own: answers that shout are left out, or said calmly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nexa.core.errors import DataError
from nexa.data.filters.base import RowFilter, Verdict
from nexa.data.rows import Row


class Shouting:
    """Leaves out answers in capitals, or writes them in small letters."""

    # Raised whenever a verdict changes for an equal row: a dataset is then made anew.
    version = 1

    def __call__(self, options: Mapping[str, Any]) -> RowFilter:
        """The filter; its one option is `action`: drop (what is meant without it) or calm."""
        known = {"action": "drop", **options}
        if len(known) > 1 or known["action"] not in ("drop", "calm"):
            raise DataError("shouting takes one option, action: drop or calm", found=str(options))
        return _Calm() if known["action"] == "calm" else _Drop()


class _Drop:
    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        return [Verdict("shouting", "the answer") if _shouts(row) else None for row in rows]


class _Calm:
    def __call__(self, rows: Sequence[Row]) -> list[Verdict | None]:
        return [_calmed(row) if _shouts(row) else None for row in rows]


def _shouts(row: Row) -> bool:
    return row.content.messages[-1]["content"].isupper()


def _calmed(row: Row) -> Verdict:
    *asked, answer = row.content.messages
    calm = {**answer, "content": answer["content"].capitalize()}
    return Verdict("calmed", "the answer", replace(row.content, messages=(*asked, calm)))


SHOUTING = Shouting()
