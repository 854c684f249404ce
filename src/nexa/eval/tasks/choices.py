"""Multiple choice by likelihood: the model chooses what it finds likeliest to follow.

A row's answer is one JSON object, `{"choices": [text, ...], "answer": INDEX or text}`, or, where
the task names its choices, one of them. Lengths are normalised by bytes (`acc_norm`), which hang
on no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nexa.core.errors import EvalError
from nexa.eval.tasks.json_record import read
from nexa.eval.tasks.task import Grade, Likelihoods, Metric, Task, Through, rounded

METRICS = (
    Metric("acc", 1, "1 if the right choice is the likeliest"),
    Metric("acc_norm", 1, "1 if the right choice is the likeliest a byte"),
    Metric("probability", 1, "probability of the right choice among the choices"),
)
SHAPE = '{"choices": ["...", "..."], "answer": 0}'


@dataclass(frozen=True)
class Options:
    """What a row offers, and which of it is right."""

    choices: tuple[str, ...]
    right: int


def options(target: str, fixed: Sequence[str] = ()) -> Options:
    """The choices of a row's target.

    Raises:
        EvalError: it names none, or not which of them is right.
    """
    value = read(target)
    own = value if isinstance(value, dict) and not fixed else {}
    choices = tuple(fixed) or own.get("choices")
    answer = target.strip() if fixed else own.get("answer")
    if not isinstance(choices, list | tuple) or not all(
        isinstance(choice, str) and choice for choice in choices
    ):
        raise _refused(target, f"each held-out answer names its choices: {SHAPE}")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise _refused(target, "a row needs two choices, and no choice twice")
    return Options(tuple(choices), _place(answer, choices, target))


def choices_task(
    name: str = "multiple_choice",
    about: str = "one of several texts is right, and the likeliest is taken",
    *,
    choices: Sequence[str] = (),
    through: Through = "template",
    separator: str = " ",
) -> Task:
    """A task whose rows name their choices, or all have the same."""
    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="acc",
        parser="likelihood/1",
        fits=lambda targets: bool([options(target, choices) for target in targets]),
        grader=lambda targets: lambda answer, target: _grade(answer, options(target, choices)),
        continuations=lambda target: options(target, choices).choices,
        through=through,
        separator=separator,
    )


def likeliest(values: Sequence[float]) -> int:
    """The place of the largest; the first of several."""
    return max(range(len(values)), key=lambda place: (values[place], -place))


def _grade(answer: Likelihoods, offered: Options) -> Grade:
    a_byte = [nats / size for nats, size in zip(answer.nats, answer.bytes, strict=True)]
    top = max(answer.nats)
    weights = [math.exp(nats - top) for nats in answer.nats]
    scores = {
        "acc": float(likeliest(answer.nats) == offered.right),
        "acc_norm": float(likeliest(a_byte) == offered.right),
        "probability": rounded(weights[offered.right] / math.fsum(weights)),
    }
    return Grade(scores, {"choices": len(offered.choices)})


def _place(answer: object, choices: Sequence[str], target: str) -> int:
    """Which choice is right: by its text, its number from 0 on, or its letter."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and len(answer) == 1 and answer.isupper():
        answer = ord(answer) - ord("A")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise _refused(target, f"its answer is none of the {len(choices)} choices")


def _refused(target: str, why: str) -> EvalError:
    return EvalError("a held-out row is no multiple choice", found=target[:80], fix=why)


MULTIPLE_CHOICE = choices_task()
