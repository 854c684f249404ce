"""What the leaderboard says of scored answers beside their record: who, how fast, for how much."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, ExportBody, ModelRef, ScoresBody, Spent, SuiteBody
from nexa.core.scoring import Row, read_rows
from nexa.core.seals import is_remote
from nexa.core.store import Store
from nexa.eval.analyze import contaminated
from nexa.orchestrate.models import exports
from nexa.ui.leaderboard import Role
from nexa.ui.leaderboard_entries import Subject, subject_of_training

FIRST = ("scores", "a_scores")  # what an evaluation calls its first model's
NO_PRICE = "own machine, and infra.cost_per_hour_usd gives no price for it"
UNKNOWN_PRICE = "an API whose price is not known: --price tells it"
NOT_METERED = "own machine, not metered"


def subjects_of(
    made: Mapping[str, Artifact[Any]],
    manifest: Mapping[str, Any],
    *,
    teachers: Set[str] = frozenset(),
    store: Store,
) -> dict[str, Subject]:
    """Every Scores record of a run -> what is known of it.

    Args:
        made: role -> record.
        manifest: the run's.
        teachers: names of models that a student here has learned from.
        store: has the records.
    """
    return {
        role: _measured(_subject(role, artifact, made, manifest, teachers, store), artifact, store)
        for role, artifact in made.items()
        if artifact.kind == "scores"
    }


def rows_of(artifact: Artifact[Any], file: str, store: Store) -> list[dict[str, Any]]:
    """The rows of one of an artifact's JSON-lines files."""
    return read_rows(store.path(artifact, file).read_bytes())


def seal_parts(scores: Artifact[ScoresBody], store: Store) -> dict[str, str]:
    """What the seal is a digest of, as far as the records name it, in words.

    What made the metrics' code is not in a record but by the version of the step.
    """
    suite = store.by_digest(scores.inputs["suite"])
    answers = store.by_digest(scores.body.answers_digest)
    parts = {
        "task": suite.body.task,
        "metrics": ", ".join(scores.body.metrics),
        "scored by": f"{scores.step.get('name')} {scores.step.get('version')}",
        **{f"decoding, {name}": str(value) for name, value in answers.body.decoding.items()},
        "chat template": _short(answers.body.template_sha256),
        "general text": _short(answers.body.general_text_sha256),
    }
    if scores.body.safety is not None:
        parts["hazard rules"] = scores.body.safety.rules
    judge = scores.body.judge
    if judge is not None:
        parts |= {
            "judge": judge.judge_model_id,
            **{f"judge, {name}": str(value) for name, value in judge.judge_identity.items()},
            "judge prompt": _short(judge.judge_prompt_hash),
            "rubric": f"{judge.rubric} {_short(judge.rubric_sha256)}",
            **{f"judge's {name}": str(value) for name, value in judge.decoding.items()},
            "parser": judge.parser,
        }
    return {name: value for name, value in parts.items() if value}


def latencies(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Seconds a prompt: the median, and what 95 of 100 do not pass (nearest rank)."""
    values = sorted(float(row["latency_s"]) for row in rows if row.get("latency_s") is not None)
    if not values:
        return None
    return _at(values, 0.5), _at(values, 0.95)


# -- one record ----------------------------------------------------------------------------------


def _subject(
    role: str,
    scores: Artifact[ScoresBody],
    made: Mapping[str, Artifact[Any]],
    manifest: Mapping[str, Any],
    teachers: Set[str],
    store: Store,
) -> Subject:
    """Who was scored: base or tuned of a training, or a model from anywhere."""
    side = role.removesuffix("_scores")
    if "report" in made and "checkpoint" in made and side in ("base", "tuned"):
        return subject_of_training(side, made, manifest)
    suite, model = store.by_digest(scores.inputs["suite"]), scores.body.model
    export = next((export for export in exports(store) if _is(export, model)), None)
    if export is None:
        return Subject(suite, _role(role, model, teachers, store), model.name)
    return Subject(
        suite,
        "tuned",
        f"{export.name}@{export.version}",
        export.body.base.name,
        verdict=_verdict(scores, made.get("report")),
        contaminated=_seen_in_training(suite, export, scores, store),
    )


def _verdict(scores: Artifact[ScoresBody], report: Artifact[Any] | None) -> str:
    """What the run's report says of these very scores beside their base's."""
    if report is None or report.inputs["tuned"] != scores.digest:
        return ""
    return str(report.body.verdict)


def _measured(subject: Subject, scores: Artifact[ScoresBody], store: Store) -> Subject:
    """With latency, cost, agreement and rows."""
    answers = store.by_digest(scores.body.answers_digest)
    spent = scores.body.spent or answers.body.spent
    cost, source = _cost(spent, scores.body.model)
    return replace(
        subject,
        latency_s=latencies(rows_of(answers, "answers.jsonl", store)),
        cost_usd_per_1000_prompts=cost,
        cost_source=source,
        agreement=_agreement(scores, store),
        rows=tuple(rows_of(scores, "scores.jsonl", store)),
    )


def _cost(spent: Spent | None, model: ModelRef) -> tuple[float | None, str]:
    """Dollars for 1,000 prompts, and by whose word; None: not known, and why.

    A machine without a price is metered at 0, which is no price.
    """
    if spent is None or spent.cost_usd is None or not spent.requests:
        return None, UNKNOWN_PRICE if is_remote(model) else NOT_METERED
    if not is_remote(model) and not spent.cost_usd:
        return None, NO_PRICE
    return spent.cost_usd / spent.requests * 1000, spent.price_source or "the answers' record"


def _agreement(scores: Artifact[ScoresBody], store: Store) -> dict[str, tuple[float, str]]:
    """Metric -> how far the judge agrees with people, as the newest labels found."""
    judged = scores.inputs.get("judgements")
    found: dict[str, tuple[float, str]] = {}
    for record in _records("agreement", store):
        if judged is not None and record.body.judgements_digest == judged:
            figures = ((name, each.alpha) for name, each in record.body.criteria.items())
            found |= {
                name: (figure.value, f"Krippendorff's alpha, {figure.n} rows")
                for name, figure in figures
                if figure.value is not None
            }
    return found


def _is(export: Artifact[ExportBody], model: ModelRef) -> bool:
    return (
        model.digest == export.body.model_digest
        or (model.source_sha256 or "") in export.files.values()
    )


def _role(role: str, model: ModelRef, teachers: Set[str], store: Store) -> Role:
    """What a model is that nothing here made."""
    if is_remote(model) or model.name in teachers:
        return "teacher"
    if model.digest in _bases(store):
        return "base"
    return "other" if role in FIRST else "baseline"


def _bases(store: Store) -> set[str]:
    """Digests of the models that something here was trained from."""
    return {checkpoint.body.base.digest for checkpoint in _records("checkpoint", store)}


# -- contamination -------------------------------------------------------------------------------


def _seen_in_training(
    suite: Artifact[SuiteBody],
    export: Artifact[ExportBody],
    scores: Artifact[ScoresBody],
    store: Store,
) -> tuple[str, ...] | None:
    """Rows of the suite that the model was trained on: as a report found, else looked for now.

    None: what it was trained on is not known here.
    """
    taken = {
        record.digest
        for record in _records("scores", store)
        if record.body.model.digest == scores.body.model.digest
    }
    for report in _records("report", store):
        if report.inputs["tuned"] in taken and report.inputs["suite"] == suite.digest:
            found = report.body.contaminated_rows
            return None if found is None else tuple(found)
    datasets = list(_trained_on(export, store))
    if not datasets:
        return None
    seen = {row for dataset in datasets for row in contaminated(suite, dataset, store)}
    return tuple(sorted(seen))


def _trained_on(artifact: Artifact[Any], store: Store) -> Iterator[Artifact[Any]]:
    """The datasets of every training behind a model: its parents' too."""
    if artifact.kind == "checkpoint" and "dataset" in artifact.inputs:
        yield store.by_digest(artifact.inputs["dataset"])
        return
    for digest in artifact.inputs.values():
        behind = store.by_digest(digest)
        if behind.kind in ("checkpoint", "export"):
            yield from _trained_on(behind, store)


def _records(kind: str, store: Store) -> Iterator[Artifact[Any]]:
    """Every artifact of a kind, by name and version; a damaged record is `verify`'s to tell."""
    for name in store.names(kind):
        for version in store.versions(kind, name):
            with contextlib.suppress(IntegrityError):
                yield store.get(kind, f"{name}@{version}")


def _at(values: Sequence[float], share: float) -> float:
    return values[max(math.ceil(share * len(values)) - 1, 0)]


def _short(digest: str) -> str:
    return digest[:16]
