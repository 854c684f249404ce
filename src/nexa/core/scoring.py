"""From one score a row to everything that is said about them: means, differences, the verdict.

Pure functions of `scores.jsonl`. The evaluation writes its records with them, and whoever verifies
a publication derives the same numbers again from the rows that came with it.

A row of `scores.jsonl` is `{"id", "group", "domain", "stopped", METRIC: number, ..., "detail":
{NAME: count}}`; scores run from 0 to 1.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json
from nexa.core.records import Comparison, Interval, ReportBody, SuiteBody
from nexa.core.statistics import interval, mcnemar_p, minimum_detectable, paired_difference

Row = Mapping[str, Any]
Verdict = Literal["improved", "no evidence", "worse", "contaminated"]

# What the report and the card call the domain of rows that name none.
NO_DOMAIN = "all"
STOPPED = "stopped"
NOT_CHECKED = "training data unknown to Nexa: contamination was not checked"
# Records keep nine decimals; another machine's sums may round the last one otherwise.
TOLERANCE = 1e-8
# Rows of a contaminated suite that a reason names; the record has all of them.
NAMED_ROWS = 3


@dataclass(frozen=True)
class Derived:
    """What a ScoresBody says about its rows."""

    metrics: dict[str, Interval]
    by_domain: dict[str, dict[str, Interval]]
    stop_rate: Interval
    counts: dict[str, int]


@dataclass(frozen=True)
class Side:
    """One model's half of a comparison: its rows, and its nats a token on the general text.

    None: a model of an API, whose likelihoods nobody is told.
    """

    rows: Sequence[Row]
    general_cross_entropy: float | None


def read_rows(data: bytes) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file.

    Raises:
        EvalError: a line is not a JSON object; named.
    """
    rows = []
    # By bytes: an answer may hold characters that `str.splitlines` takes for the end of a line.
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvalError(f"line {number} is not JSON", found=str(error)) from error
        if not isinstance(row, dict):
            raise EvalError(f"line {number} is not a JSON object", found=repr(row)[:60])
        rows.append(row)
    return rows


def write_rows(rows: Sequence[Row]) -> bytes:
    """Rows as JSON lines, each in its one canonical form."""
    return b"".join(canonical_json(dict(row)) + b"\n" for row in rows)


def derive_scores(rows: Sequence[Row], metrics: Sequence[str]) -> Derived:
    """Means with intervals, over all rows and over each domain.

    Raises:
        EvalError: no rows, a row without one of the metrics, or a score outside 0 to 1.
    """
    domains: dict[str, list[Row]] = {}
    for row in rows:
        domains.setdefault(_domain(row), []).append(row)
    return Derived(
        metrics={metric: _interval(rows, metric) for metric in metrics},
        by_domain={
            domain: {metric: _interval(members, metric) for metric in metrics}
            for domain, members in sorted(domains.items())
        },
        stop_rate=_interval(rows, STOPPED),
        counts=_counts(rows),
    )


def derive_comparisons(
    base: Sequence[Row], tuned: Sequence[Row], metrics: Sequence[str]
) -> list[Comparison]:
    """Tuned minus base, metric by metric, on rows paired by their id.

    Raises:
        EvalError: the two do not have the same rows.
    """
    after = _paired(base, tuned)
    return [_compare(metric, base, after) for metric in metrics]


def derive_report(
    suite: SuiteBody,
    base: Side,
    tuned: Side,
    *,
    forgetting_limit_nats: float,
    contaminated_rows: Sequence[str] | None,
    seal: str,
) -> ReportBody:
    """Base against tuned, and what it proves.

    The verdict hangs on the primary metric alone: improved if the interval of its difference lies
    above 0, worse if below, else no evidence; contaminated, whatever the scores, if a suite row
    occurs in the training rows (None: nobody could look, and the reason says so). Forgetting is a
    gate of its own and never a reason to improve.

    Raises:
        EvalError: the two sides do not have the same rows, or one cannot tell what it forgot.
    """
    if base.general_cross_entropy is None or tuned.general_cross_entropy is None:
        raise EvalError(
            "a report needs both models' likelihoods of the general text",
            found="a model of an API gives none",
            fix="nexa compare sets such models side by side",
        )
    before, after = (
        derive_scores(base.rows, suite.metrics),
        derive_scores(tuned.rows, suite.metrics),
    )
    comparisons = derive_comparisons(base.rows, tuned.rows, suite.metrics)
    primary = next(c for c in comparisons if c.metric == suite.primary)
    verdict, reason = _verdict(primary, suite, contaminated_rows)
    forgetting = round(tuned.general_cross_entropy - base.general_cross_entropy, 9)
    return ReportBody(
        verdict=verdict,
        reason=reason,
        primary=suite.primary,
        base=before.metrics,
        tuned=after.metrics,
        comparisons=comparisons,
        by_domain={
            domain: {m: [scores[m], after.by_domain[domain][m]] for m in suite.metrics}
            for domain, scores in before.by_domain.items()
        },
        forgetting_nats=forgetting,
        forgetting_limit_nats=forgetting_limit_nats,
        forgetting_passed=forgetting <= forgetting_limit_nats,
        stop_rate=[before.stop_rate, after.stop_rate],
        contaminated_rows=None if contaminated_rows is None else sorted(contaminated_rows),
        seal=seal,
    )


def alike(one: Any, other: Any) -> bool:
    """Whether two derivations say the same: equal, numbers within TOLERANCE."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=TOLERANCE)
    return bool(one == other)


def _interval(rows: Sequence[Row], metric: str) -> Interval:
    return interval([_score(row, metric) for row in rows], [_group(row) for row in rows])


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    """What the rows' details count, added up."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.get("detail", {}))
    return dict(sorted(total.items()))


def _compare(metric: str, base: Sequence[Row], tuned: Sequence[Row]) -> Comparison:
    before, after = [_score(row, metric) for row in base], [_score(row, metric) for row in tuned]
    better = sum(b > a for a, b in zip(before, after, strict=True))
    worse = sum(b < a for a, b in zip(before, after, strict=True))
    binary = {*before, *after} <= {0.0, 1.0}
    return Comparison(
        metric=metric,
        difference=paired_difference(before, after, [_group(row) for row in base]),
        better=better,
        worse=worse,
        mcnemar_p=mcnemar_p(better, worse) if binary else None,
    )


def _verdict(
    primary: Comparison, suite: SuiteBody, contaminated: Sequence[str] | None
) -> tuple[Verdict, str]:
    gain = primary.difference
    change = f"{primary.metric} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    on = f"on {gain.n} rows in {gain.groups} groups"
    if contaminated:
        named = ", ".join(sorted(contaminated)[:NAMED_ROWS])
        more = ", ..." if len(contaminated) > NAMED_ROWS else ""
        return "contaminated", (
            f"{len(contaminated)} of {suite.rows} suite rows occur in the training rows "
            f"({named}{more}), so {change} {on} says nothing."
        )
    if contaminated is None:
        on += f" ({NOT_CHECKED})"
    if gain.low > 0:
        return "improved", f"{change} {on}: the whole interval lies above 0."
    if gain.high < 0:
        return "worse", f"{change} {on}: the whole interval lies below 0."
    least = minimum_detectable(gain)
    return "no evidence", (
        f"{change} {on}: the interval holds 0. A suite like this shows differences from about "
        f"{least:.2f} on."
    )


def _paired(base: Sequence[Row], tuned: Sequence[Row]) -> list[Row]:
    """The rows of `tuned` in the order of `base`."""
    by_id = {row["id"]: row for row in tuned}
    same = len(by_id) == len(tuned) == len(base) == len({row["id"] for row in base})
    lone = sorted({row["id"] for row in base} ^ set(by_id))
    if lone or not same:
        raise EvalError(
            "the two models were not scored on the same rows",
            found=f"{len(base)} and {len(tuned)} rows, only on one side: {lone[:NAMED_ROWS]}",
        )
    for row in base:
        other = by_id[row["id"]]
        if (_group(row), _domain(row)) != (_group(other), _domain(other)):
            raise EvalError(f"row {row['id']} has another group or domain on the other side")
    return [by_id[row["id"]] for row in base]


def _score(row: Row, metric: str) -> float:
    value = row.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvalError(f"row {row.get('id')} has no score for {metric}", found=repr(value))
    return float(value)


def _group(row: Row) -> str:
    return str(row.get("group") or row["id"])


def _domain(row: Row) -> str:
    return str(row.get("domain") or NO_DOMAIN)
