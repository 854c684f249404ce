"""Two models on the same frozen rows: the second minus the first, metric by metric."""

from __future__ import annotations

from typing import Any

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, Comparison, ScoresBody, SuiteBody
from nexa.core.scoring import Side, derive_comparisons, read_rows, what_counts
from nexa.core.seals import meet
from nexa.core.store import Store, UnknownArtifact

DIGEST_LENGTH = 64
SHOWN = 16  # characters of a digest


def compare(
    suite: Artifact[SuiteBody],
    first: Artifact[ScoresBody],
    second: Artifact[ScoresBody],
    *,
    store: Store,
) -> list[Comparison]:
    """Paired differences, second minus first, one for each metric that was scored.

    Rows without a score on either side leave the pair, and are counted.

    Raises:
        EvalError: the scores are another suite's, or were not taken alike.
    """
    require_alike(suite, first, second, store)
    a, b = (read_side(scores, store) for scores in (first, second))
    metrics, _ = what_counts(suite.body, a, b)
    return derive_comparisons(a.rows, b.rows, metrics)


def read_side(scores: Artifact[ScoresBody], store: Store) -> Side:
    """A model's rows, and what their record says beside them."""
    rows = read_rows(store.path(scores, "scores.jsonl").read_bytes())
    return Side.of(rows, scores.body)


def require_alike(
    suite: Artifact[SuiteBody],
    first: Artifact[ScoresBody],
    second: Artifact[ScoresBody],
    store: Store,
) -> None:
    """Refuse to set numbers side by side that were not taken on the same rows in the same way.

    Raises:
        EvalError: another suite, or seals that differ; names the parts that do, where they are
            known.
    """
    for scores in (first, second):
        if scores.body.suite_digest != suite.digest:
            raise EvalError(
                f"{scores.label} was not taken on {suite.label}",
                found=f"its suite is {scores.body.suite_digest[:16]}, not {suite.digest[:16]}",
                fix="score both models on the same suite",
            )
    if not meet(first.body, second.body):
        raise EvalError(
            f"{first.label} and {second.label} were not taken alike",
            found=f"seals {first.body.seal[:16]} and {second.body.seal[:16]}: "
            f"{_unlike(first, second, store)}",
            fix="judge both by the same judge, prompts and rubric"
            if first.body.judge or second.body.judge
            else "answer with the same dtype, batch size and template, then score both again",
        )


def _unlike(first: Artifact[ScoresBody], second: Artifact[ScoresBody], store: Store) -> str:
    """Which parts of two seals differ, as far as the records tell."""
    one, other = (_sealed_parts(scores, store) for scores in (first, second))
    names = [name for name in one if name in other and one[name] != other[name]]
    if not names:
        return "task, metrics, parser, decoding, chat template or general text differ"
    shown = (f"{name} ({_short(one[name])} and {_short(other[name])})" for name in names)
    return f"they differ in {', '.join(shown)}"


def _sealed_parts(scores: Artifact[ScoresBody], store: Store) -> dict[str, Any]:
    """What a record, and that of its answers, says of how the numbers came about."""
    body = scores.body
    parts: dict[str, Any] = {
        "judge": body.judge.judge_model_id if body.judge else "none, scored by rule",
        "rules for hazards": body.safety.rules if body.safety else "none",
    }
    if body.judge:
        parts |= {f"judge's {name}": value for name, value in body.judge.model_dump().items()}
    try:
        answers = store.by_digest(body.answers_digest).body
    except UnknownArtifact:  # scores that were brought here without their answers
        return parts
    parts |= {f"decoding's {name}": value for name, value in answers.decoding.items()}
    return parts | {
        "chat template": answers.template_sha256,
        "general text": answers.general_text_sha256,
    }


def _short(value: object) -> str:
    """A value of a seal, a digest by its beginning."""
    text = str(value)
    return text[:SHOWN] if len(text) == DIGEST_LENGTH else text
