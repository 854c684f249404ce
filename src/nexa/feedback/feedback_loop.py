"""Whether a round of improvement is kept, and whether another one follows.

A round is kept only if, on a suite that no generator saw, what was weak rises and nothing else
pays for it:

    at least one target    rises: its whole interval lies above 0, corrected for all targets (Holm)
    no target, no other    falls: its whole interval lies below 0; or its mean lies more than
    slice                  `regression_limit` below, and a rise of that size is ruled out
    the whole suite        is not worse, and no row of it is in the training rows
    forgetting             has passed its gate
    red flags              are no more than before
    the generator          wrote hardly any row of a suite (`echo_limit`)

Slices of fewer rows or groups than the minimum are not judged: one row would move them too far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, where
from nexa.core.records import (
    Artifact,
    Comparison,
    DecisionBody,
    Draft,
    ReportBody,
    ScoresBody,
    SuiteBody,
    WeaknessBody,
)
from nexa.core.store import Store
from nexa.feedback.compared import Compared, compared
from nexa.feedback.feedback_generators.closed import LEAK

NOT_COMPARED = "not compared"
CONFIDENT = 0.05


@dataclass(frozen=True)
class DecideSpec:
    """What the round did, and what it must not have cost."""

    name: str = where()
    round: int = 1  # from 1 on
    generator: str = "pool"  # who made the candidates
    dataset_before: str = ""  # label of the version that the round began with
    dataset_after: str | None = None  # of the one it made; None: no candidate was new
    added: int = 0  # rows that came in
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> candidates left out
    spent_usd: float | None = None  # None: a price is not known
    regression_limit: float = 0.2  # how far the mean of a slice may fall, from 0 to 1
    echo_limit: float = 0.05  # share of candidates that may give a held-out row away
    minimum_rows: int = 4  # a slice with fewer rows for acceptance is not judged
    minimum_groups: int = 3


def decide(
    spec: DecideSpec,
    *,
    weakness: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    before: Artifact[ScoresBody],
    report: Artifact[ReportBody] | None = None,
    after: Artifact[ScoresBody] | None = None,
    store: Store,
) -> Draft[DecisionBody]:
    """Keep a round or roll it back, by the suite for acceptance, with every reason.

    `report` compares `before` with `after` on `suite`; both are left out where no candidate was
    new. The draft's file is `decision.json`, the body as it stands.

    Raises:
        EvalError: the scores or the report are not of this suite, or it shares rows with the one
            that the weaknesses were found on.
    """
    against = _echo(spec)
    found = Compared([], [])
    proof = ""
    if report is None or after is None:
        if spec.dataset_after is not None:
            raise EvalError(f"{spec.dataset_after} cannot be decided on without its scores")
        against = [_nothing_new(spec), *against]
    else:
        _require_related(weakness, suite, before, report, after)
        found = compared(
            weakness,
            suite,
            before,
            after,
            left_out=report.body.contaminated_rows or (),
            primary=report.body.primary,
            enough=(spec.minimum_rows, spec.minimum_groups),
            store=store,
        )
        against += [*_slices_against(spec, found), *_report_against(report.body)]
        proof = _proof(found, report.body)
    body = DecisionBody(
        round=spec.round,
        accepted=not against,
        reason=f"rolled back: {'; '.join(against)}." if against else f"kept: {proof}.",
        reasons=against,
        verdict=report.body.verdict if report is not None else NOT_COMPARED,
        generator=spec.generator,
        dataset_before=spec.dataset_before,
        dataset_after=spec.dataset_after,
        added=spec.added,
        rejected=dict(spec.rejected),
        targets=[one for _, one in found.targets],
        others=[one for _, one in found.others],
        slices=[name for name, _ in [*found.targets, *found.others]],
        spent_usd=spec.spent_usd,
    )
    emit("feedback.decision", round=spec.round, accepted=body.accepted, reason=body.reason)
    data = canonical_json(body.model_dump(mode="json"))
    return Draft("decision", spec.name, body, {"decision.json": data})


def stop_reason(
    decisions: Sequence[DecisionBody],
    *,
    rounds: int,
    budget_usd: float | None = None,
    weak: int | None = None,
) -> str | None:
    """Why the loop ends after these rounds, in words; None: another round follows.

    `weak` counts the weak slices that were found for the next round; None: not looked yet.
    """
    spent = sum(decision.spent_usd or 0.0 for decision in decisions)
    if len(decisions) >= rounds:
        return f"all {rounds} rounds are done" if rounds != 1 else "the one round is done"
    if budget_usd is not None and spent >= budget_usd:
        return f"the budget of ${budget_usd:.2f} is spent (${spent:.4f})"
    if weak == 0:
        return "no evidence: no slice is surely weak"
    last = decisions[-1] if decisions else None
    if last is not None and not last.accepted and not any(map(rises, last.targets)):
        return f"no evidence: round {last.round} raised no weak slice"
    return None


def rises(one: Comparison) -> bool:
    """Whether a difference lies above 0 with its whole interval, corrected for all targets."""
    return one.difference.low > 0 and (one.adjusted_p is None or one.adjusted_p < CONFIDENT)


def falls(one: Comparison, limit: float) -> bool:
    """Whether a difference lies below 0 with its whole interval, or too far below to be borne.

    Too far: the mean lies more than `limit` below 0, and the interval ends before `limit` above.
    """
    gain = one.difference
    return gain.high < 0 or (gain.mean < -limit and gain.high < limit)


def _require_related(
    weakness: Artifact[WeaknessBody],
    suite: Artifact[SuiteBody],
    before: Artifact[ScoresBody],
    report: Artifact[ReportBody],
    after: Artifact[ScoresBody],
) -> None:
    """Raises: EvalError: something is of another suite, or of other scores."""
    for scores in (before, after):
        if scores.body.suite_digest != suite.digest:
            raise EvalError(f"{scores.label} was not taken on {suite.label}")
    made_from = {"suite": suite, "base": before, "tuned": after}
    for role, artifact in made_from.items():
        if report.inputs.get(role) != artifact.digest:
            raise EvalError(f"{report.label} does not compare with {artifact.label} as its {role}")
    if weakness.body.suite_digest == suite.digest:
        raise EvalError(
            f"the weaknesses were found on {suite.label} itself",
            found="what was aimed at on its rows proves nothing on them",
            fix="freeze two suites, with part: analysis and part: acceptance",
        )


def _slices_against(spec: DecideSpec, found: Compared) -> list[str]:
    if not found.targets:
        least = f"{spec.minimum_rows} rows in {spec.minimum_groups} groups"
        return [f"no weak slice has {least} on the suite for acceptance"]
    against = []
    if not any(rises(one) for _, one in found.targets):
        against.append("no evidence that a weak slice rises: " + _told(*found.targets[0]))
    for role, pairs in (("weak", found.targets), ("other", found.others)):
        for name, one in pairs:
            if falls(one, spec.regression_limit):
                against.append(f"the {role} slice {_told(name, one)} falls")
    return against


def _report_against(report: ReportBody) -> list[str]:
    against = []
    if report.verdict in ("worse", "contaminated"):
        against.append(f"the whole suite is {report.verdict}: {report.reason.rstrip('.')}")
    if not report.forgetting_passed:
        against.append(
            f"{report.forgetting_nats:+.3f} nats a token were forgotten on general text, at most "
            f"{report.forgetting_limit_nats:g} are allowed"
        )
    if report.safety is not None:
        flags = [safety.red_flag_count for safety in report.safety]
        if flags[1] > flags[0]:
            against.append(f"{flags[1]} red flags in the answers, {flags[0]} before")
    return against


def _echo(spec: DecideSpec) -> list[str]:
    echoed = spec.rejected.get(LEAK, 0)
    candidates = spec.added + sum(spec.rejected.values())
    if not echoed or echoed <= spec.echo_limit * candidates:
        return []
    rows = "evaluation row" if echoed == 1 else "evaluation rows"
    return [
        f"the generator echoed {echoed} {rows} among {candidates} candidates "
        f"({echoed / candidates:.0%}, at most {spec.echo_limit:.0%} are let pass)"
    ]


def _nothing_new(spec: DecideSpec) -> str:
    lost = ", ".join(f"{reason} {count:,}" for reason, count in spec.rejected.items())
    return f"no candidate was new ({lost or 'there was none'})"


def _proof(found: Compared, report: ReportBody) -> str:
    """What speaks for a round, in numbers."""
    up = [_told(name, one) for name, one in found.targets if rises(one)]
    told = [f"{' and '.join(up)} rises" if len(up) == 1 else f"{' and '.join(up)} rise"]
    if found.others:
        lowest = min(found.others, key=lambda pair: pair[1].difference.mean)
        told.append(
            f"none of {len(found.others)} other slices falls (the lowest: {_told(*lowest)})"
        )
    told.append(f"the whole suite: {report.verdict}")
    told.append(f"{report.forgetting_nats:+.3f} nats forgotten")
    return "; ".join(told)


def _told(name: str, one: Comparison) -> str:
    gain = one.difference
    return (
        f"{name}: {one.metric} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] on {gain.n} "
        f"rows in {gain.groups} groups"
    )
