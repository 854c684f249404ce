"""Who enters the leaderboard: every Scores record of a run, one entry a metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, Interval, JudgeSeal, ScoresBody, SuiteBody
from nexa.core.scoring import Row
from nexa.core.statistics import interval
from nexa.ui.leaderboard import Entry, Role


@dataclass(frozen=True)
class Subject:
    """What is known of scored answers beside their Scores record. None: not known.

    `rows` are those of `scores.jsonl`: with them contaminated ones are scored apart.
    """

    suite: Artifact[SuiteBody]
    role: Role
    model: str
    base_model: str = ""
    verdict: str = ""
    tokens_trained: int = 0
    training_usd: float = 0.0
    latency_s: tuple[float, float] | None = None
    """A prompt's, median and 95 of 100, where the record has none."""
    cost_usd_per_1000_prompts: float | None = None
    cost_source: str | None = None
    contaminated: tuple[str, ...] | None = None
    agreement: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Metric -> the judge's agreement with people, and which measure on how many rows."""
    rows: tuple[Row, ...] = field(default=(), repr=False)


def entries_of(
    records: Mapping[str, Artifact[Any]],
    manifest: Mapping[str, Any],
    subjects: Mapping[str, Subject] | None = None,
) -> list[Entry]:
    """The entries of a run: each of its Scores records, one entry a metric.

    Args:
        records: role -> record.
        manifest: the run's manifest.
        subjects: role of a Scores record -> what is known of it. Without them only base and tuned
            of a training run enter, with what its records say: suite, checkpoint, base_scores,
            tuned_scores and report.
    """
    if subjects is None:
        subjects = {
            f"{side}_scores": subject_of_training(side, records, manifest)
            for side in ("base", "tuned")
        }
    return [
        entry
        for role, subject in subjects.items()
        for entry in _entries(records[role], subject, manifest)
    ]


def subject_of_training(
    side: str, records: Mapping[str, Artifact[Any]], manifest: Mapping[str, Any]
) -> Subject:
    """Base or tuned of a training run, as far as its records say."""
    report, checkpoint = records["report"].body, records["checkpoint"]
    suite, base_model = records["suite"], checkpoint.body.base.name
    if side == "base":
        return Subject(suite, "base", base_model, base_model)
    leaked = report.contaminated_rows
    return Subject(
        suite,
        "tuned",
        f"{checkpoint.name}@{checkpoint.version}",
        base_model,
        verdict=report.verdict,
        tokens_trained=getattr(checkpoint.body, "tokens_trained", 0),
        training_usd=float((manifest.get("cost") or {}).get("cost_total_usd") or 0.0),
        contaminated=None if leaked is None else tuple(leaked),
    )


def primary_of(scores: ScoresBody, suite: SuiteBody) -> str:
    """The metric that a board of such scores is ranked by."""
    return scores.primary or suite.primary


def _entries(
    scores: Artifact[ScoresBody], subject: Subject, manifest: Mapping[str, Any]
) -> Iterable[Entry]:
    body, suite = scores.body, subject.suite
    if body.suite_digest != suite.digest:
        raise EvalError(f"{scores.label} was not taken on {suite.label}")
    whole = {**(body.corpus or {}), **body.metrics}
    for metric, found in sorted(whole.items()):
        yield Entry(
            created=str((manifest.get("cost") or {}).get("end_time") or ""),
            run_id=str(manifest.get("run_id") or ""),
            role=subject.role,
            model=subject.model,
            model_digest=body.model.digest,
            base_model=subject.base_model,
            suite=f"{suite.name}@{suite.version}",
            seal=body.seal,
            metric=metric,
            primary=metric == primary_of(body, suite.body),
            mean=found.mean,
            low=found.low,
            high=found.high,
            rows=found.n,
            groups=found.groups,
            verdict=subject.verdict,
            tokens_trained=subject.tokens_trained,
            cost_usd=subject.training_usd,
            origin=body.model.origin,
            ruler=body.ruler,
            prompts_sha256=suite.files["prompts.jsonl"],
            scores_digest=scores.digest,
            **_judged(body.judge, metric, subject),
            **_measured(body, subject),
            **_missing(body, metric),
            **_apart(metric, subject),
        )


def _judged(judge: JudgeSeal | None, metric: str, subject: Subject) -> dict[str, Any]:
    agreement, of = subject.agreement.get(metric, (None, None))
    if judge is None:
        return {}
    return {
        "judge_model_id": judge.judge_model_id,
        "judge_prompt_hash": judge.judge_prompt_hash,
        "rubric_sha256": judge.rubric_sha256,
        "human_agreement": agreement,
        "human_agreement_of": of,
    }


def _measured(body: ScoresBody, subject: Subject) -> dict[str, Any]:
    spent, safety = body.spent, body.safety
    latency = subject.latency_s or (None, None)
    if spent is not None and spent.latency_s_p50 is not None:
        latency = (spent.latency_s_p50, cast(float, spent.latency_s_p95))
    return {
        "safety_score": None if safety is None else safety.safety_score.mean,
        "red_flag_count": None if safety is None else safety.red_flag_count,
        "latency_s_p50": latency[0],
        "latency_s_p95": latency[1],
        "cost_usd_per_1000_prompts": subject.cost_usd_per_1000_prompts,
        "cost_source": subject.cost_source,
    }


def _missing(body: ScoresBody, metric: str) -> dict[str, Any]:
    """How many rows have no score; a record that counts none has one for each."""
    missing, bounds = (body.missing or {}).get(metric), (body.bounds or {}).get(metric)
    if missing is None:
        missing = 0 if metric in body.metrics else None
    low, high = bounds or (None, None)
    return {"missing": missing, "bound_low": low, "bound_high": high}


def _apart(metric: str, subject: Subject) -> dict[str, Any]:
    """The rows that training gave away, and the scores without them."""
    if subject.contaminated is None:
        return {}
    leaked = set(subject.contaminated)
    told: dict[str, Any] = {
        "contaminated_rows": len(leaked),
        "contaminated_ids": tuple(sorted(leaked)),
    }
    scored = [row for row in subject.rows if row.get(metric) is not None]
    if not leaked or not scored:
        return told
    clean = _mean([row for row in scored if row["id"] not in leaked], metric)
    dirty = _mean([row for row in scored if row["id"] in leaked], metric)
    if clean is not None:
        told |= {"clean_mean": clean.mean, "clean_low": clean.low, "clean_high": clean.high}
    return told | {"contaminated_mean": None if dirty is None else dirty.mean}


def _mean(rows: list[Row], metric: str) -> Interval | None:
    if not rows:
        return None
    groups = [str(row.get("group") or row["id"]) for row in rows]
    return interval([float(row[metric]) for row in rows], groups)
