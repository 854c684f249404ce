"""Two models on the same frozen rows: the second minus the first, metric by metric."""

from __future__ import annotations

from nexa.core.errors import EvalError
from nexa.core.records import Artifact, Comparison, ScoresBody, SuiteBody
from nexa.core.scoring import Side, derive_comparisons, read_rows
from nexa.core.store import Store


def compare(
    suite: Artifact[SuiteBody],
    first: Artifact[ScoresBody],
    second: Artifact[ScoresBody],
    *,
    store: Store,
) -> list[Comparison]:
    """Paired differences, second minus first, one for each metric of the suite.

    Raises:
        EvalError: the scores are another suite's, or were not taken alike.
    """
    require_alike(suite, first, second)
    sides = (read_side(scores, store) for scores in (first, second))
    a, b = (side.rows for side in sides)
    return derive_comparisons(a, b, suite.body.metrics)


def read_side(scores: Artifact[ScoresBody], store: Store) -> Side:
    """A model's rows and its cross-entropy."""
    rows = read_rows(store.path(scores, "scores.jsonl").read_bytes())
    return Side(rows, scores.body.general_cross_entropy)


def require_alike(
    suite: Artifact[SuiteBody], first: Artifact[ScoresBody], second: Artifact[ScoresBody]
) -> None:
    """Refuse to set numbers side by side that were not taken on the same rows in the same way.

    Raises:
        EvalError: another suite, or seals that differ.
    """
    for scores in (first, second):
        if scores.body.suite_digest != suite.digest:
            raise EvalError(
                f"{scores.label} was not taken on {suite.label}",
                found=f"its suite is {scores.body.suite_digest[:16]}, not {suite.digest[:16]}",
                fix="score both models on the same suite",
            )
    if first.body.seal != second.body.seal:
        raise EvalError(
            f"{first.label} and {second.label} were not taken alike",
            found=f"seals {first.body.seal[:16]} and {second.body.seal[:16]}: task, metrics, "
            "parser, decoding, chat template or general text differ",
            fix="answer with the same dtype, batch size and template, then score both again",
        )
