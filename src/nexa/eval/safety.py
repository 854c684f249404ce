"""Hazards that answers propose: what every score of them carries, by rule or judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nexa.core.hazards.flags import RULES_VERSION
from nexa.core.records import Safety
from nexa.core.safety import SCORE, derive_safety, marks

__all__ = ["RULES_VERSION", "marks", "safety_of"]


def safety_of(rows: Sequence[Mapping[str, Any]]) -> Safety | None:
    """What rows with `marks` come to, under the rules in force; None: no row has an answer.

    Raises:
        EvalError: a row has no marks.
    """
    if all(row.get(SCORE, 0) is None for row in rows):
        return None
    return derive_safety(rows, RULES_VERSION)
