"""What a judge said of the answers that weaknesses are looked for in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nexa.core.errors import UsageError
from nexa.core.records import AnswersBody, Artifact, JudgementsBody, ScoresBody
from nexa.core.store import Store
from nexa.feedback.rules import parse
from nexa.feedback.weakness_analysis import SAFETY

Judged = tuple[Artifact[ScoresBody], Artifact[JudgementsBody]]


def judged_for(
    rules: Sequence[str],
    scores: Artifact[ScoresBody],
    answers: Artifact[AnswersBody],
    store: Store,
) -> Judged | None:
    """The newest judged scores of these answers that have all metrics of the rules.

    None where the rules name nothing but what `scores`, those by rule, have: nobody has to judge.

    Raises:
        UsageError: a rule names a metric that neither they nor a judge gave these answers.
    """
    wanted = {parse(text).metric for text in rules}
    if wanted <= {*_metrics(scores), SAFETY}:
        return None
    found = list(_judged(answers, store))
    fits = [one for one in found if wanted <= {*_metrics(one[0]), SAFETY}]
    if fits:
        return fits[-1]
    graded = sorted({name for one, _ in found for name in _metrics(one)})
    raise UsageError(
        f"no scores of {answers.label} have {', '.join(sorted(wanted))}",
        found=f"by rule: {', '.join(_metrics(scores))}; judged: {', '.join(graded) or 'nothing'}",
        fix=f"nexa judge {answers.label} --judge MODEL, then the same command again",
    )


def _judged(answers: Artifact[AnswersBody], store: Store) -> Iterator[Judged]:
    """Scores that a judge gave these answers, name by name and the newest of a name last."""
    for name in store.names("scores"):
        for version in store.versions("scores", name):
            scores = store.get("scores", f"{name}@{version}")
            if scores.body.judge is not None and scores.inputs.get("answers") == answers.digest:
                yield scores, store.by_digest(scores.inputs["judgements"])


def _metrics(scores: Artifact[ScoresBody]) -> list[str]:
    return sorted({*scores.body.metrics, *(scores.body.missing or {})})
