"""Where a model is weak: slices of a suite, their scores with intervals, the weakest first.

With rules a slice is weak where its whole interval lies beyond a rule's threshold, and all rows
together are a slice, too, weak where they are so without the weak ones among them; without any,
where it lies below the rest of the suite. A slice of too few rows or groups is never weak: it says
that it is too few to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexa.core.errors import EvalError, UsageError, nearest
from nexa.core.events import emit
from nexa.core.identity import canonical_json, where
from nexa.core.records import (
    Artifact,
    Draft,
    JudgementsBody,
    ReportBody,
    ScoresBody,
    SuiteBody,
    WeaknessBody,
)
from nexa.core.scoring import read_rows
from nexa.core.store import Store
from nexa.feedback.items import suite_items
from nexa.feedback.looking import Look
from nexa.feedback.rules import Rule, settle
from nexa.feedback.slices import KINDS, WHOLE, Cut, cut, members

SAFETY = "safety_score"


@dataclass(frozen=True)
class WeaknessSpec:
    """What counts as weak, and how a suite is cut."""

    name: str = where()
    rules: tuple[str, ...] = ()  # e.g. `exact < 0.5`; none: what lies below the rest of the suite
    by: tuple[str, ...] = KINDS  # the ways a suite is cut
    metric: str | None = None  # of the comparison with the rest; None: the scores' primary
    minimum_rows: int = 4  # a slice with fewer is too small to tell
    minimum_groups: int = 3  # so is one with fewer groups
    length_bins: int = 3  # of equal numbers of rows
    clusters: int = 4  # of questions in like words; fewer where they are few
    seed: int = 0  # of the clusters


def weakness(
    spec: WeaknessSpec,
    *,
    suite: Artifact[SuiteBody],
    scores: Artifact[ScoresBody],
    judgements: Artifact[JudgementsBody] | None = None,
    report: Artifact[ReportBody] | None = None,
    store: Store,
) -> Draft[WeaknessBody]:
    """Find the slices of a suite on which the scores are low.

    The draft's file is `weakness.json`, the body as it stands. Rows that `report` names as
    contaminated are left out. `judgements` say which metrics are levels from 1 to 5; without them
    those of judged scores are.

    Raises:
        EvalError: the scores or the report are another suite's, or no row is left to look at.
        UsageError: a rule that is none, or one of a metric or a slice that is not there.
    """
    _require_suite(suite, scores, judgements, report)
    left_out = sorted(report.body.contaminated_rows or ()) if report else []
    rows = read_rows(store.path(scores, "scores.jsonl").read_bytes())
    by_id = {str(row["id"]): row for row in rows}
    items = [item for item in suite_items(suite, store) if item.id not in set(left_out)]
    if not items or any(item.id not in by_id for item in items):
        raise EvalError(
            f"{scores.label} leaves nothing to look at on {suite.label}",
            found=f"{len(rows)} rows with scores, {len(left_out)} of {suite.body.rows} "
            "contaminated",
        )
    cuts = cut(items, spec.by, length_bins=spec.length_bins, clusters=spec.clusters, seed=spec.seed)
    if spec.rules:  # which may hold of the whole suite and surely of no part of it
        cuts.append(WHOLE)
    held = members(cuts, items)
    judged = _judged(scores, judgements)
    primary = scores.body.primary or suite.body.primary
    rules = _settled(spec, scores, judged, primary, cuts)
    scored = [by_id[item.id] for item in items]
    look = Look(scored, judged, rules, spec.minimum_rows, spec.minimum_groups)
    slices, unscored = look.slices(cuts, held)
    body = WeaknessBody(
        model=scores.body.model,
        scores_digest=scores.digest,
        suite_digest=suite.digest,
        rules=list(dict.fromkeys(rule.text for rule in rules if rule.text)),
        minimum_rows=spec.minimum_rows,
        minimum_groups=spec.minimum_groups,
        slices=slices,
        outside={
            kind: len(items) - len({at for c in cuts if c.by == kind for at in held[c.name]})
            for kind in spec.by
        },
        left_out=left_out,
        unscored=unscored,
    )
    emit("feedback.weakness", weak=weak_names(body), slices=len(slices))
    data = canonical_json(body.model_dump(mode="json"))
    return Draft("weakness", spec.name, body, {"weakness.json": data})


def weak_names(body: WeaknessBody) -> list[str]:
    """The weak slices by name, each once, the weakest first."""
    return list(dict.fromkeys(f"{one.by}={one.value}" for one in body.slices if one.weak))


def _require_suite(
    suite: Artifact[SuiteBody],
    scores: Artifact[ScoresBody],
    judgements: Artifact[JudgementsBody] | None,
    report: Artifact[ReportBody] | None,
) -> None:
    """Raises: EvalError: something was not taken on this suite, or judges other answers."""
    taken = {scores.label: scores.body.suite_digest}
    if judgements is not None:
        taken[judgements.label] = judgements.body.suite_digest
    if report is not None:
        taken[report.label] = report.inputs.get("suite", "")
    for label, digest in taken.items():
        if digest != suite.digest:
            raise EvalError(
                f"{label} was not taken on {suite.label}",
                found=f"its suite is {digest[:16] or 'unknown'}, not {suite.digest[:16]}",
            )
    if judgements is not None and judgements.body.answers_digest != scores.body.answers_digest:
        raise EvalError(f"{judgements.label} and {scores.label} are of different answers")


def _judged(
    scores: Artifact[ScoresBody], judgements: Artifact[JudgementsBody] | None
) -> frozenset[str]:
    """The metrics that are levels of a rubric."""
    if judgements is not None:
        return frozenset({*judgements.body.criteria, judgements.body.primary})
    return frozenset(_scored(scores)) if scores.body.judge is not None else frozenset()


def _metrics(scores: Artifact[ScoresBody]) -> list[str]:
    return [*_scored(scores), *([SAFETY] if scores.body.safety is not None else [])]


def _scored(scores: Artifact[ScoresBody]) -> list[str]:
    """Metrics; one that no row has a score for is only among the missing."""
    return list(dict.fromkeys([*scores.body.metrics, *(scores.body.missing or {})]))


def _settled(
    spec: WeaknessSpec,
    scores: Artifact[ScoresBody],
    judged: frozenset[str],
    primary: str,
    cuts: Sequence[Cut],
) -> list[Rule]:
    """The rules; where none is given, one without a text or a threshold, for the one metric."""
    metrics = _metrics(scores)
    if spec.rules:
        return settle(spec.rules, metrics, judged, [made.name for made in cuts])
    metric = spec.metric or primary
    if metric not in metrics:
        raise UsageError(
            f"these scores have no metric {metric!r}",
            found=", ".join(metrics),
            fix=nearest(metric, metrics),
        )
    return [Rule("", metric, or_equal=False, threshold=0.0, percent=False)]
