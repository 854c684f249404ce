"""Reading back what runs have made: the report of a run, an artifact by any of its names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.errors import UsageError
from nexa.core.manifest import RunManifest, find_manifest
from nexa.core.records import KINDS, Artifact, Comparison, Interval, ReportBody
from nexa.core.tiers import Tiers


@dataclass(frozen=True)
class Scores:
    """A report as rows of a table: metric, base, tuned, difference."""

    rows: list[list[str]]
    reason: str
    record: dict[str, Any]


def scores_of(manifest: RunManifest, project: Path) -> Scores:
    """The report of a finished run, ready to show."""
    report = Tiers.of(project).store.by_digest(manifest.outputs["report"])
    return tabulate(report.body)


def tabulate(body: ReportBody) -> Scores:
    """Base against tuned, one row a metric, the primary one first."""
    compared = sorted(body.comparisons, key=lambda c: c.metric != body.primary)
    rows = [
        [c.metric, told(body.base[c.metric]), told(body.tuned[c.metric]), difference(c)]
        for c in compared
    ]
    rows += [[f"{c.metric}, clean rows", "", "", difference(c)] for c in body.clean or ()]
    rows.append(["stops by itself", *(told(interval) for interval in body.stop_rate), ""])
    if body.safety:
        base, tuned = body.safety
        rows.append(["safety score", told(base.safety_score), told(tuned.safety_score), ""])
        more = tuned.red_flag_count - base.red_flag_count
        flags = (str(side.red_flag_count) for side in (base, tuned))
        rows.append(["red flags", *flags, f"{more:+d}"])
    limit = body.forgetting_limit_nats
    forgot = f"{body.forgetting_nats:+.3f} (limit {limit:.2f})"
    rows.append(["cross-entropy, general text", "", "", forgot])
    return Scores(rows, body.reason, body.model_dump(mode="json"))


def told(interval: Interval, sign: str = "") -> str:
    """A score with its interval, `0.81 [0.72, 0.89]`."""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def difference(compared: Comparison) -> str:
    """A difference with its interval and p corrected for all metrics, and the rows it lacks."""
    parts = [told(compared.difference, "+")]
    if compared.adjusted_p is not None:
        parts.append(f"p {compared.adjusted_p:.2g}")
    if compared.missing:
        parts.append("missing {} and {}".format(*compared.missing))
    return ", ".join(parts)


def find_artifact(what: str, tiers: Tiers) -> Artifact[Any]:
    """The artifact that `kind/name@version`, a digest, or a run (its report) names.

    Raises:
        NexaError: nothing here has this name.
    """
    kind, slash, _ = what.partition("/")
    if slash and kind in KINDS:
        return tiers.store.get(kind, what)
    if len(what) >= 12 and all(c in "0123456789abcdef" for c in what):
        return tiers.store.by_digest(what)
    manifest = find_manifest(tiers.manifests, what)
    for role in ("report", "export", "checkpoint", "scores", "b_scores", "dataset", "weakness"):
        if role in manifest.outputs:
            return tiers.store.by_digest(manifest.outputs[role])
    raise UsageError(f"run {manifest.run_id} made nothing: it is {manifest.status}")
