"""Quantities that cannot be, as `nexa.core.hazards.unphysical` finds them."""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.config_filters import UnphysicalSection
from nexa.core.hazards.flags import UNPHYSICAL_TRIGGER, Impossible, unphysical
from nexa.data.filters.base import RowFilter, Verdict
from nexa.data.filters.texts import hits
from nexa.data.rows import Row

QUOTED = 3  # quantities that a detail tells of


def make(options: UnphysicalSection) -> RowFilter:
    """The filter of these options."""

    def check(rows: Sequence[Row]) -> list[Verdict | None]:
        verdicts: list[Verdict | None] = [None] * len(rows)
        texts = [row.example.text for row in rows]
        for hit in hits(texts, UNPHYSICAL_TRIGGER):
            found = [item for item in unphysical(texts[hit]) if item.quantity in options.kinds]
            if found:
                kept = rows[hit].content if options.action == "keep" else None
                verdicts[hit] = Verdict(_reason(found), _detail(found), kept)
        return verdicts

    return check


def _reason(found: Sequence[Impossible]) -> str:
    return f"unphysical ({', '.join(sorted({item.quantity for item in found}))})"


def _detail(found: Sequence[Impossible]) -> str:
    told = [
        f"{item.quantity} {item.value!r} at character {item.place + 1}: {item.why}"
        for item in found[:QUOTED]
    ]
    more = [f"and {len(found) - QUOTED} more"] if len(found) > QUOTED else []
    return "; ".join(told + more)
