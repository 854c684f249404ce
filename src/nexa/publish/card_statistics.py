"""What the card says of how sure its numbers are: p, what is missing, contaminated rows left out.

Nothing of a report of a version that had no such numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.records import Comparison, ReportBody
from nexa.publish.markdown import cell, difference, table
from nexa.publish.records import Records


def statistics(records: Records) -> list[str]:
    """P of every difference, the smallest difference shown, missing scores, and clean rows."""
    report = records.role("report").body
    if report.minimum_detectable is None:
        return []
    judge = (
        [f" Judged by `{cell(report.judge.judge_model_id)}`, rubric `{cell(report.judge.rubric)}`."]
        if report.judge
        else []
    )
    text = (
        "p is two-sided and by group: the level at which the interval of the difference would just "
        "reach 0; beside it p corrected for all metrics compared (Holm). A suite like this shows "
        f"differences of {report.primary} from about {report.minimum_detectable:.2f} on, four "
        "times in five."
    )
    return [
        "### How sure this is",
        "",
        "".join([text, *judge]),
        "",
        *_ps(report.comparisons, report.primary),
        *_missing(report),
        *_clean(report),
    ]


def _ps(compared: Sequence[Comparison], primary: str) -> list[str]:
    rows = [
        [_name(c.metric, primary), difference(c.difference), _p(c.p), _p(c.adjusted_p)]
        for c in sorted(compared, key=lambda c: (c.metric != primary, c.metric))
    ]
    return table(["metric", "tuned - base", "p", "p, corrected"], rows)


def _missing(report: ReportBody) -> list[str]:
    """Rows without a score; nothing where every row has one."""
    rows = [
        [
            _name(c.metric, report.primary),
            *map(str, c.missing),
            f"{c.bounds[0]:+.3f} to {c.bounds[1]:+.3f}",
        ]
        for c in report.comparisons
        if c.missing and c.bounds
    ]
    if not rows:
        return []
    head = ["metric", "base", "tuned", "difference, if all went against or for it"]
    return [
        "",
        "Rows without a score are left out above. How many, and what they could have changed:",
        "",
        *table(head, rows),
    ]


def _clean(report: ReportBody) -> list[str]:
    """The comparison without the contaminated rows; nothing where there is none, or no other."""
    if report.clean is None:
        return []
    return [
        "",
        "Without the contaminated rows, which the verdict above does not rest on "
        f"({max((c.difference.n for c in report.clean), default=0)} rows are left):",
        "",
        *_ps(report.clean, report.primary),
    ]


def _name(metric: str, primary: str) -> str:
    return f"**{metric}**" if metric == primary else metric


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
