"""Hazards in experimental proposals: rows with more red flags, or a lower score, than is allowed.

What a red flag is and how the score comes about is told in `nexa.core.hazards`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.config_filters import SafetySection
from nexa.core.hazards.flags import RedFlag, hazard_trigger, red_flags, safety_score
from nexa.data.filters.base import RowFilter, Verdict
from nexa.data.filters.texts import hits
from nexa.data.rows import Row

QUOTED = 3  # red flags that a detail tells of


def make(options: SafetySection) -> RowFilter:
    """The filter of these options."""

    def check(rows: Sequence[Row]) -> list[Verdict | None]:
        verdicts: list[Verdict | None] = [None] * len(rows)
        texts = [row.example.text for row in rows]
        for hit in hits(texts, hazard_trigger()):
            flags = red_flags(texts[hit])
            # The score is a second search: without a limit only rows that go pay for it.
            if len(flags) <= options.max_red_flags and not options.min_safety_score:
                continue
            score = safety_score(texts[hit])
            if len(flags) > options.max_red_flags or score < options.min_safety_score:
                kept = rows[hit].content if options.action == "keep" else None
                verdicts[hit] = Verdict(_reason(flags), _detail(flags, score), kept)
        return verdicts

    return check


def _reason(flags: Sequence[RedFlag]) -> str:
    kinds = ", ".join(sorted({flag.kind for flag in flags}))
    return f"unsafe proposal ({kinds or 'low safety score'})"


def _detail(flags: Sequence[RedFlag], score: float) -> str:
    told = [f"{flag.kind}: {flag.words!r} at character {flag.place + 1}" for flag in flags[:QUOTED]]
    more = f"; and {len(flags) - QUOTED} more" if len(flags) > QUOTED else ""
    return f"safety score {score:.2f}" + "".join(f"; {flag}" for flag in told) + more
