"""The door that every answer of a model goes through: one with a red flag enters no dataset.

No option opens it. Rows that people wrote are the business of the filter `safety`, if they ask for
it; what a model or a teacher wrote is refused here, wherever rows become a version of a dataset
(`nexa.data.synthetic`, `nexa.data.merge`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from nexa.core.hazards.flags import RedFlag, hazard_trigger, red_flags
from nexa.data.filters.base import RowFilter, Verdict
from nexa.data.filters.texts import hits
from nexa.data.rows import Row

RED_FLAG = "red flag"
QUOTED = 3  # red flags that a detail tells of
# How the source of a row begins that no person wrote, e.g. `synthetic`, `teacher: NAME`.
SOURCE_WORDS = ("synthetic", "teacher", "distill", "generated", "llm")
WRITTEN_BY_A_MODEL = re.compile(rf"(?:{'|'.join(SOURCE_WORDS)}|model(?=$|[:/]))", re.IGNORECASE)

Whose = Literal["nobody", "synthetic", "all"]
"""Whose answers are looked at: those whose row has a source that says so, or all."""


def make(whose: Whose) -> RowFilter:
    """The door for rows of which some, or all, were written by a model."""

    def check(rows: Sequence[Row]) -> list[Verdict | None]:
        verdicts: list[Verdict | None] = [None] * len(rows)
        said = [
            (index, message["content"])
            for index, row in enumerate(rows)
            if whose == "all" or by_a_model(row)
            for message in row.content.messages
            if message["role"] == "assistant"
        ]
        for hit in hits([text for _, text in said], hazard_trigger()):
            index, text = said[hit]
            if verdicts[index] is None and (flags := red_flags(text)):
                verdicts[index] = Verdict(RED_FLAG, _detail(flags))
        return verdicts

    return check


def by_a_model(row: Row) -> bool:
    """Whether a row's own source says that a model or a teacher wrote it."""
    return WRITTEN_BY_A_MODEL.match((row.content.source or "").strip()) is not None


def _detail(flags: Sequence[RedFlag]) -> str:
    told = [
        f"{flag.kind}: {flag.words!r} at character {flag.place + 1} of the answer"
        for flag in flags[:QUOTED]
    ]
    more = [f"and {len(flags) - QUOTED} more"] if len(flags) > QUOTED else []
    return "; ".join(told + more)
