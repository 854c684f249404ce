"""From one score a row to everything that is said about them: means, differences, the verdict.

Pure functions of `scores.jsonl`. The evaluation writes its records with them, and whoever verifies
a publication derives the same numbers again from the rows that came with it.

A row of `scores.jsonl` is `{"id", "group", "domain", "stopped", METRIC: number, ..., "detail":
{NAME: count}}`; scores run from 0 to 1. A score of null is missing, never zero: means are over the
rows that have one, and bounds tell what the others could have made of them.
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
from nexa.core.records import (
    Comparison,
    Interval,
    JudgeSeal,
    ReportBody,
    Safety,
    ScoresBody,
    Spent,
    SuiteBody,
)
from nexa.core.safety import derive_safety
from nexa.core.statistics import (
    EDITION,
    holm,
    interval,
    kept,
    mcnemar_p,
    minimum_detectable,
    paired_difference,
    paired_test,
)

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
    missing: dict[str, int] | None = None
    """Metric -> rows without a score; None where no row lacks one."""
    bounds: dict[str, list[float]] | None = None
    """Metric -> [mean if all of those were the lowest, the highest]."""


@dataclass(frozen=True)
class Side:
    """One model's half of a comparison: its rows, and its nats a token on the general text.

    None: a model of an API, whose likelihoods nobody is told. `safety_rules` is the version of the
    rules that its rows' hazards were marked under; None: they were not.
    """

    rows: Sequence[Row]
    general_cross_entropy: float | None
    safety_rules: str | None = None
    metrics: Sequence[str] | None = None
    """What was scored, where that is not what the suite says; so it is where a model judged."""
    primary: str | None = None
    judge: JudgeSeal | None = None
    spent: Spent | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], scores: ScoresBody) -> Side:
        """The rows of sealed scores, and what their record says beside them."""
        return cls(
            rows,
            scores.general_cross_entropy,
            scores.safety.rules if scores.safety else None,
            own_metrics(scores),
            scores.primary,
            scores.judge,
            scores.spent,
        )


def own_metrics(scores: ScoresBody) -> list[str] | None:
    """What was scored, where it is not what the suite says: else None."""
    if scores.judge is None and scores.primary is None:
        return None
    return sorted({*scores.metrics, *(scores.missing or {})})


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


def derive_scores(
    rows: Sequence[Row], metrics: Sequence[str], *, edition: int = EDITION
) -> Derived:
    """Means with intervals, over all rows and over each domain.

    A metric is left out where no row has a score for it; `missing` still counts it.

    Args:
        rows: of `scores.jsonl`.
        metrics: their names.
        edition: of `nexa.core.statistics`; records sealed under an older one are derived so.

    Raises:
        EvalError: no rows, a row without one of the metrics, no score at all, or one outside
            0 to 1.
    """
    domains: dict[str, list[Row]] = {}
    for row in rows:
        domains.setdefault(_domain(row), []).append(row)
    missing = {m: count for m in metrics if (count := sum(_score(r, m) is None for r in rows))}
    means = _intervals(rows, metrics, edition)
    if rows and not means:
        raise EvalError("no row has a score", found=f"{len(rows)} rows: {', '.join(metrics)}")
    return Derived(
        metrics=means,
        by_domain={
            domain: _intervals(members, metrics, edition)
            for domain, members in sorted(domains.items())
        },
        stop_rate=interval(
            [_number(row, STOPPED) for row in rows], [_group(row) for row in rows], edition=edition
        ),
        counts=_counts(rows),
        missing=missing or None,
        bounds={metric: _bounds(rows, metric) for metric in missing} or None,
    )


def derive_comparisons(
    base: Sequence[Row], tuned: Sequence[Row], metrics: Sequence[str], *, edition: int = EDITION
) -> list[Comparison]:
    """Tuned minus base, metric by metric, on rows paired by their id.

    A row without a score on either side leaves the pair: `missing` counts them, `bounds` tell what
    they could have made of the difference. A metric that leaves no pair is left out. `adjusted_p`
    is corrected for all metrics given.

    Raises:
        EvalError: the two do not have the same rows.
    """
    after = _paired(base, tuned)
    compared = [_compare(metric, base, after, edition) for metric in metrics]
    found = [comparison for comparison in compared if comparison is not None]
    if edition == 1:
        return found
    adjusted = holm([c.p for c in found if c.p is not None])
    return [c.model_copy(update={"adjusted_p": p}) for c, p in zip(found, adjusted, strict=True)]


def derive_report(
    suite: SuiteBody,
    base: Side,
    tuned: Side,
    *,
    forgetting_limit_nats: float,
    contaminated_rows: Sequence[str] | None,
    seal: str,
    edition: int = EDITION,
) -> ReportBody:
    """Base against tuned, and what it proves.

    The verdict hangs on the primary metric alone: improved if the interval of its difference lies
    above 0, worse if below, else no evidence; contaminated, whatever the scores, if a suite row
    occurs in the training rows (None: nobody could look, and the reason says so). Then `clean` has
    the comparisons without these rows. Forgetting is a gate of its own and never a reason to
    improve.

    Metrics and the primary one are the suite's, unless the scores have their own: those that a
    model judged.

    Raises:
        EvalError: the two sides do not have the same rows, were not scored alike, have no score of
            the primary metric in common, or one cannot tell what it forgot.
    """
    if base.general_cross_entropy is None or tuned.general_cross_entropy is None:
        raise EvalError(
            "a report needs both models' likelihoods of the general text",
            found="a model of an API gives none",
            fix="nexa compare sets such models side by side",
        )
    metrics, primary = what_counts(suite, base, tuned)
    before, after = (derive_scores(side.rows, metrics, edition=edition) for side in (base, tuned))
    comparisons = derive_comparisons(base.rows, tuned.rows, metrics, edition=edition)
    clean = _clean(base, tuned, metrics, contaminated_rows, edition)
    gain = _of(primary, comparisons)
    if gain is None:
        raise EvalError(
            f"no row has a score for {primary} from both models",
            found=f"{len(base.rows)} rows; the verdict is drawn from {primary}",
        )
    verdict, reason = _verdict(gain, suite, contaminated_rows, _of(primary, clean or ()))
    forgetting = round(tuned.general_cross_entropy - base.general_cross_entropy, 9)
    return ReportBody(
        verdict=verdict,
        reason=reason,
        primary=primary,
        base={m: found for m, found in before.metrics.items() if m in after.metrics},
        tuned={m: found for m, found in after.metrics.items() if m in before.metrics},
        comparisons=comparisons,
        by_domain={
            domain: {
                m: [scores[m], after.by_domain[domain][m]]
                for m in metrics
                if m in scores and m in after.by_domain[domain]
            }
            for domain, scores in before.by_domain.items()
        },
        forgetting_nats=forgetting,
        forgetting_limit_nats=forgetting_limit_nats,
        forgetting_passed=forgetting <= forgetting_limit_nats,
        stop_rate=[before.stop_rate, after.stop_rate],
        contaminated_rows=None if contaminated_rows is None else sorted(contaminated_rows),
        seal=seal,
        clean=clean,
        minimum_detectable=None if edition == 1 else minimum_detectable(gain.difference),
        judge=base.judge,
        safety=_safety(base, tuned),
        spent=[base.spent, tuned.spent] if base.spent and tuned.spent else None,
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


def _safety(base: Side, tuned: Side) -> list[Safety] | None:
    """Hazards of both, where both were marked under the same rules."""
    if base.safety_rules is None or base.safety_rules != tuned.safety_rules:
        return None
    return [derive_safety(side.rows, base.safety_rules) for side in (base, tuned)]


def what_counts(suite: SuiteBody, base: Side, tuned: Side) -> tuple[Sequence[str], str]:
    """The metrics that both sides have, and the one that the verdict is drawn from.

    Raises:
        EvalError: only one was judged, or they were judged in different ways.
    """
    if base.judge != tuned.judge or base.primary != tuned.primary:
        raise EvalError(
            "the two models were not scored alike",
            found="one was judged, or both were judged in different ways",
            fix="judge the answers of both by the same rubric and judge",
        )
    metrics = suite.metrics
    if base.metrics is not None and tuned.metrics is not None:
        metrics = sorted({*base.metrics, *tuned.metrics})
    return metrics, base.primary or suite.primary


def _clean(
    base: Side,
    tuned: Side,
    metrics: Sequence[str],
    contaminated: Sequence[str] | None,
    edition: int,
) -> list[Comparison] | None:
    """The comparisons on the rows that are not contaminated; None: none is, or no other is left."""
    dirty = set(contaminated or ())
    before, after = ([r for r in side.rows if r["id"] not in dirty] for side in (base, tuned))
    if edition == 1 or not before or len(before) == len(base.rows):
        return None
    return derive_comparisons(before, after, metrics)


def _of(metric: str, comparisons: Sequence[Comparison]) -> Comparison | None:
    return next((c for c in comparisons if c.metric == metric), None)


def _intervals(rows: Sequence[Row], metrics: Sequence[str], edition: int) -> dict[str, Interval]:
    """The mean of each metric that any of the rows has a score for."""
    made = {}
    for metric in metrics:
        scored = [
            (score, _group(row)) for row in rows if (score := _score(row, metric)) is not None
        ]
        if scored or not rows:
            scores, groups = [score for score, _ in scored], [group for _, group in scored]
            made[metric] = interval(scores, groups, edition=edition)
    return made


def _bounds(rows: Sequence[Row], metric: str) -> list[float]:
    """The mean if every missing score were 0, and if it were 1."""
    scores = [_score(row, metric) for row in rows]
    told = math.fsum(score for score in scores if score is not None)
    return [kept(told / len(rows)), kept((told + scores.count(None)) / len(rows))]


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    """What the rows' details count, added up."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.get("detail", {}))
    return dict(sorted(total.items()))


def _compare(
    metric: str, base: Sequence[Row], tuned: Sequence[Row], edition: int
) -> Comparison | None:
    """One metric; None where no row has a score on both sides."""
    pairs = [
        (_score(b, metric), _score(t, metric), _group(b)) for b, t in zip(base, tuned, strict=True)
    ]
    whole = [(b, t, group) for b, t, group in pairs if b is not None and t is not None]
    if not whole:
        return None
    before, after = [b for b, _, _ in whole], [t for _, t, _ in whole]
    groups = [group for _, _, group in whole]
    better = sum(b > a for a, b in zip(before, after, strict=True))
    worse = sum(b < a for a, b in zip(before, after, strict=True))
    binary = {*before, *after} <= {0.0, 1.0}
    if edition == 1:
        difference, p = paired_difference(before, after, groups, edition=edition), None
    else:
        tested = paired_test(before, after, groups)
        difference, p = tested.difference, tested.p
    lacking = [sum(b is None for b, _, _ in pairs), sum(t is None for _, t, _ in pairs)]
    return Comparison(
        metric=metric,
        difference=difference,
        better=better,
        worse=worse,
        mcnemar_p=mcnemar_p(better, worse) if binary else None,
        p=p,
        missing=lacking if any(lacking) else None,
        bounds=_difference_bounds([(b, t) for b, t, _ in pairs]) if any(lacking) else None,
    )


def _difference_bounds(pairs: Sequence[tuple[float | None, float | None]]) -> list[float]:
    """The mean difference over all rows if missing scores were against tuned, and if for it."""
    against = math.fsum((0 if t is None else t) - (1 if b is None else b) for b, t in pairs)
    for_it = math.fsum((1 if t is None else t) - (0 if b is None else b) for b, t in pairs)
    return [kept(against / len(pairs)), kept(for_it / len(pairs))]


def _verdict(
    primary: Comparison,
    suite: SuiteBody,
    contaminated: Sequence[str] | None,
    clean: Comparison | None,
) -> tuple[Verdict, str]:
    gain = primary.difference
    change = f"{primary.metric} {_told(gain)}"
    on = f"on {gain.n} rows in {gain.groups} groups"
    if contaminated:
        named = ", ".join(sorted(contaminated)[:NAMED_ROWS])
        more = ", ..." if len(contaminated) > NAMED_ROWS else ""
        return "contaminated", (
            f"{len(contaminated)} of {suite.rows} suite rows occur in the training rows "
            f"({named}{more}), so {change} {on} says nothing."
            + (
                f" Without them: {_told(clean.difference)} on {clean.difference.n}."
                if clean
                else ""
            )
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


def _told(gain: Interval) -> str:
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


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


def _score(row: Row, metric: str) -> float | None:
    """A row's score; None where it is missing and the row says so."""
    return None if metric in row and row[metric] is None else _number(row, metric)


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvalError(f"row {row.get('id')} has no score for {name}", found=repr(value))
    return float(value)


def _group(row: Row) -> str:
    return str(row.get("group") or row["id"])


def _domain(row: Row) -> str:
    return str(row.get("domain") or NO_DOMAIN)
