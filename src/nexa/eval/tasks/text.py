"""Answers that are text: equal to the target, or sharing its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from nexa.eval.tasks.task import Grade, Grader, Metric, Task

METRICS = (
    Metric("token_f1", 1, "harmonic mean of the shares of the answer's and the target's words"),
    Metric("exact_match", 1, "1 if the texts are equal but for white space at their ends"),
)
_WORD = re.compile(r"\w+")


def grader(targets: Sequence[str]) -> Grader:
    """How one answer is marked; the other targets do not matter."""
    return grade


def grade(answer: str, target: str) -> Grade:
    """Mark one answer; words are compared without case, order and punctuation."""
    given, wanted = (Counter(_WORD.findall(text.casefold())) for text in (answer, target))
    words = given.total() + wanted.total()
    exact = answer.strip() == target.strip()
    # Texts without a word (an emoji, a formula's signs) are alike only if they are equal.
    f1 = 2 * (given & wanted).total() / words if words else float(exact)
    return Grade({"token_f1": f1, "exact_match": float(exact)}, {"empty": int(not answer.strip())})


TEXT = Task(
    name="text",
    about="the answer is text",
    metrics=METRICS,
    primary="token_f1",
    parser="words/1",
    fits=bool,
    grader=grader,
)
