"""Answers that are text: equal to the target, or sharing its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from nexa.eval.tasks.extract import Extract, normalised, whole
from nexa.eval.tasks.task import Grade, Metric, Task

METRICS = (
    Metric("token_f1", 1, "harmonic mean of the shares of the answer's and the target's words"),
    Metric("exact_match", 1, "1 if the texts are equal but for white space at their ends"),
)
_WORD = re.compile(r"\w+")


NORMALISE: tuple[str, ...] = ("strip",)


def text_task(
    name: str = "text",
    about: str = "the answer is text",
    *,
    extract: Extract = whole,
    normalise: Sequence[str] = NORMALISE,
) -> Task:
    """A task whose answers are compared as texts, after what is taken of them is made alike."""

    def grade_part(answer: str, target: str) -> Grade:
        part = extract(answer)
        made = grade(part or "", target, normalise)
        if extract is whole:
            return made
        scores = made.scores if part is not None else dict.fromkeys(made.scores, 0.0)
        return Grade(scores, {**made.detail, "unreadable": int(part is None)})

    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="token_f1",
        parser="words/1",
        fits=bool,
        grader=lambda targets: grade_part,
        reader=extract,
    )


def grade(answer: str, target: str, normalise: Sequence[str] = NORMALISE) -> Grade:
    """Mark one answer; words are compared without case, order and punctuation."""
    given, wanted = (Counter(_WORD.findall(text.casefold())) for text in (answer, target))
    words = given.total() + wanted.total()
    exact = normalised(answer, normalise) == normalised(target, normalise)
    # Texts without a word (an emoji, a formula's signs) are alike only if they are equal.
    f1 = 2 * (given & wanted).total() / words if words else float(exact)
    return Grade({"token_f1": f1, "exact_match": float(exact)}, {"empty": int(not answer.strip())})


TEXT = text_task()
