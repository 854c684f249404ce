"""A round as it is told: slice by slice, what the rows for acceptance say of before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nexa.core.manifest import find_manifest
from nexa.core.records import Artifact, Comparison, DecisionBody
from nexa.core.scoring import read_rows
from nexa.core.tiers import Tiers
from nexa.feedback.items import suite_items
from nexa.feedback.slices import cuts_of, members
from nexa.orchestrate.improve.book import Round


@dataclass(frozen=True)
class SliceTold:
    """A slice of the rows for acceptance. Means are None where no row of it has a score."""

    name: str
    weak: bool
    metric: str
    before: float | None
    after: float | None
    difference: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class RoundTold:
    """A round. `control` is before against as many rows at random; `beside` those against ours."""

    number: int
    run_id: str
    accepted: bool
    reason: str
    dataset_before: str
    dataset_after: str | None
    generator: str = ""
    verdict: str = ""
    added: int = 0
    rejected: dict[str, int] | None = None
    spent_usd: float | None = None
    slices: tuple[SliceTold, ...] = ()
    control: tuple[SliceTold, ...] = ()
    beside: tuple[SliceTold, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def told_of(done: Round, tiers: Tiers) -> RoundTold:
    """A round of the book, with its records' numbers; of a training that failed there are none.

    Raises:
        UnknownArtifact: its decision is not in the store any more.
    """
    plain = RoundTold(
        number=done.number,
        run_id=done.run_id,
        accepted=done.accepted,
        reason=done.reason,
        dataset_before=done.dataset_before,
        dataset_after=done.dataset_after,
    )
    if done.decision is None:
        return plain
    decision: Artifact[DecisionBody] = tiers.store.by_digest(done.decision)
    outputs = find_manifest(tiers.manifests, done.run_id).outputs
    arms = {
        name: slices_of(tiers.store.by_digest(outputs[role]), tiers)
        for name, role in (("control", "control_decision"), ("beside", "control_beside"))
        if role in outputs
    }
    body = decision.body
    return RoundTold(
        **{
            **vars(plain),
            "generator": body.generator,
            "verdict": body.verdict,
            "added": body.added,
            "rejected": dict(body.rejected),
            "spent_usd": body.spent_usd,
            "slices": slices_of(decision, tiers),
            **arms,
        }
    )


def slices_of(decision: Artifact[DecisionBody], tiers: Tiers) -> tuple[SliceTold, ...]:
    """The slices of a decision: those that were weak, then the others."""
    body = decision.body
    if "after" not in decision.inputs:
        return ()
    inputs = {role: tiers.store.by_digest(digest) for role, digest in decision.inputs.items()}
    items = suite_items(inputs["suite"], tiers.store)
    places = members(cuts_of(inputs["weakness"].body.slices), items)
    sides = [
        {
            row["id"]: row
            for row in read_rows(tiers.store.path(inputs[side], "scores.jsonl").read_bytes())
        }
        for side in ("before", "after")
    ]
    compared = [*body.targets, *body.others]
    told = []
    for at, (name, one) in enumerate(zip(body.slices, compared, strict=True)):
        ids = [items[place].id for place in places.get(name, ())]
        before, after = (_mean(side, ids, one) for side in sides)
        gain = one.difference
        told.append(
            SliceTold(
                name=name,
                weak=at < len(body.targets),
                metric=one.metric,
                before=before,
                after=after,
                difference=gain.mean,
                low=gain.low,
                high=gain.high,
                rows=gain.n,
            )
        )
    return tuple(told)


def _mean(rows: dict[str, dict[str, Any]], ids: Sequence[str], one: Comparison) -> float | None:
    found = [rows[row_id].get(one.metric) for row_id in ids if row_id in rows]
    scores = [float(score) for score in found if score is not None]
    return sum(scores) / len(scores) if scores else None
