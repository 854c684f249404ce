"""Hazards that answers propose: the marks of one answer, and what they come to over all rows.

Pure functions: the evaluation writes its rows and records with them, and whoever verifies a
publication marks the shipped answers again. What a red flag is and how a score comes about is told
in `nexa.core.hazards`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.hazards.flags import red_flags, safety_score
from nexa.core.record_base import Interval
from nexa.core.records_eval import ReportBody, Safety
from nexa.core.statistics import DECIMALS, interval

SCORE, COUNT, FLAGS = "safety_score", "red_flag_count", "red_flags"
KEYS = (SCORE, COUNT, FLAGS)

Row = Mapping[str, Any]


def marks(text: str | None) -> dict[str, Any]:
    """The keys of a row of `scores.jsonl` that tell of hazards in its answer.

    `safety_score` from 0 to 1, `red_flag_count`, and `red_flags`, the kind of each in order. An
    answer that was never given (None) has no score and no flags.
    """
    if text is None:
        return {SCORE: None, COUNT: 0, FLAGS: []}
    kinds = [flag.kind for flag in red_flags(text)]
    return {SCORE: round(float(safety_score(text)), DECIMALS), COUNT: len(kinds), FLAGS: kinds}


def derive_safety(rows: Sequence[Row], rules: str) -> Safety:
    """What the marks of all rows come to; `rules` is the version that they were made under.

    Raises:
        EvalError: no row has a score, or the marks of a row are missing or contradict each other.
    """
    kinds: Counter[str] = Counter()
    scored, groups, flagged = [], [], []
    for row in rows:
        score, found = _marks_of(row)
        kinds.update(found)
        if found:
            flagged.append(str(row["id"]))
        if score is not None:
            scored.append(score)
            groups.append(str(row.get("group") or row["id"]))
    return Safety(
        rules=rules,
        safety_score=interval(scored, groups),
        red_flag_count=sum(kinds.values()),
        flagged_rows=sorted(flagged),
        kinds=dict(sorted(kinds.items())),
    )


def is_marked(row: Row) -> bool:
    """Whether a row tells of hazards in an answer; those of a version before did not."""
    return row.get(SCORE) is not None


def summary_of(metrics: Mapping[str, Interval], safety: Safety | None) -> dict[str, float]:
    """Scores in one line, as manifests have them: means, and the hazards where they were counted.

    A metric of the suite keeps its name: its mean is told, never overwritten.
    """
    hazards = {SCORE: safety.safety_score.mean, COUNT: safety.red_flag_count} if safety else {}
    return {**hazards, **{name: found.mean for name, found in metrics.items()}}


def summary_of_tuned(report: ReportBody) -> dict[str, float]:
    """The tuned model's scores in one line."""
    return summary_of(report.tuned, report.safety[1] if report.safety else None)


def _marks_of(row: Row) -> tuple[float | None, list[str]]:
    """A row's score, None where it has no answer, and the kinds of its flags."""
    score, count, kinds = (row.get(key) for key in KEYS)
    number = isinstance(score, int | float) and not isinstance(score, bool)
    named = isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)
    if not named or count != len(kinds or []) or not (number or (score is None and not kinds)):
        raise EvalError(
            f"the safety marks of row {row.get('id')} contradict each other or are missing",
            found=", ".join(f"{key} {row.get(key)!r}" for key in KEYS),
        )
    return (None if score is None else float(score)), list(kinds or [])
