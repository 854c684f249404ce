"""Base against tuned: the report with its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, where
from nexa.core.overlap import example, leaks
from nexa.core.records import Artifact, DatasetBody, Draft, ReportBody, ScoresBody, SuiteBody
from nexa.core.scoring import derive_report
from nexa.core.store import Store
from nexa.eval.compare import read_side, require_alike
from nexa.eval.suite import read_split, read_suite

# Two drafts of examples/materials, which learn their task well, cost SmolLM2-135M 0.13 and 0.19
# nats a token (from 3.60). The limit leaves such runs room: exp(0.3) = 1.35 times the perplexity.
FORGETTING_LIMIT_NATS = 0.3


@dataclass(frozen=True)
class AnalyzeSpec:
    """How much may be forgotten."""

    name: str = where()
    forgetting_limit_nats: float = FORGETTING_LIMIT_NATS  # rise a token on the general text


def analyze(
    spec: AnalyzeSpec,
    *,
    suite: Artifact[SuiteBody],
    dataset: Artifact[DatasetBody] | None = None,
    base: Artifact[ScoresBody],
    tuned: Artifact[ScoresBody],
    store: Store,
) -> Draft[ReportBody]:
    """Compare the two on the same rows; `dataset` is what the tuned model was trained on.

    Without it contamination cannot be looked for, and the report says so. Scores that a model gave
    are compared like those by rule, in the judge's own metrics, and the report holds its seal.

    The draft's file is `report.json`, the body as it stands. Every number of it follows from the
    two `scores.jsonl` by `nexa.core.scoring.derive_report`.

    Raises:
        EvalError: the scores are not this suite's, were not taken alike, are of one model, or of
            one that tells nobody how likely it finds a text (`compare` takes it).
    """
    require_alike(suite, base, tuned, store)
    if base.body.model.digest == tuned.body.model.digest:
        raise EvalError(
            "base and tuned are the same model: there is nothing to compare",
            found=f"{base.label} and {tuned.label} are both of {base.body.model.name}",
        )
    body = derive_report(
        suite.body,
        read_side(base, store),
        read_side(tuned, store),
        forgetting_limit_nats=spec.forgetting_limit_nats,
        contaminated_rows=None if dataset is None else contaminated(suite, dataset, store),
        seal=base.body.seal,
    )
    emit("eval.verdict", verdict=body.verdict, reason=body.reason)
    return Draft(
        "report", spec.name, body, {"report.json": canonical_json(body.model_dump(mode="json"))}
    )


def contaminated(
    suite: Artifact[SuiteBody], dataset: Artifact[DatasetBody], store: Store
) -> list[str]:
    """Ids of suite rows that a training row gives away: a copy, a near-duplicate, a quotation."""
    questions = read_suite(suite, store)
    asked = [example([*q.messages, {"role": "assistant", "content": q.target}]) for q in questions]
    trained = [example(row["messages"]) for row in read_split(dataset, "train", store)]
    return sorted({questions[hit.eval_index].id for hit in leaks(trained, asked)})
