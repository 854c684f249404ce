"""Answers that are one of some labels: accuracy a row, F1 and its parts over the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexa.core.errors import EvalError, nearest
from nexa.eval.tasks.choices import likeliest
from nexa.eval.tasks.extract import Extract, normalised, whole
from nexa.eval.tasks.task import Continuations, Grade, Grader, Likelihoods, Metric, Task, Through

METRICS = (
    Metric("accuracy", 1, "1 if the label is the right one"),
    Metric("readable", 1, "1 if the answer is one of the labels"),
)
CORPUS = tuple(
    f"{metric}_{average}"
    for metric in ("precision", "recall", "f1")
    for average in ("macro", "micro")
)
NORMALISE = ("strip", "casefold")


def classification_task(
    name: str = "classification",
    about: str = "the answer is one of some labels",
    *,
    labels: Sequence[str] = (),
    extract: Extract = whole,
    normalise: Sequence[str] = NORMALISE,
    by_likelihood: bool = False,
    through: Through = "template",
    separator: str = " ",
) -> Task:
    """A task with these labels, or with those that its targets are."""

    def label(text: str) -> str:
        return normalised(text, normalise)

    def known(targets: Sequence[str]) -> dict[str, str]:
        return {label(each): each for each in (labels or sorted(set(targets)))}

    def fits(targets: Sequence[str]) -> bool:
        names = known(targets)
        for target in targets:
            if label(target) not in names:
                near = nearest(target, names.values())
                raise EvalError(
                    f"the held-out answer {target[:60]!r} is none of the task's labels",
                    found=", ".join(names.values()),
                    fix=near,
                )
        return len(names) > 1

    def grader(targets: Sequence[str]) -> Grader:
        names = known(targets)

        def grade(answer: str | Likelihoods, target: str) -> Grade:
            if isinstance(answer, Likelihoods):
                given: str | None = label(labels[likeliest(answer.nats)])
            else:
                part = extract(answer)
                given = None if part is None else label(part)
            return _grade(given, label(target), names)

        return grade

    if by_likelihood and not labels:
        raise EvalError("labels that are told by likelihood must be named by the task")
    continuations: Continuations | None = (lambda target: tuple(labels)) if by_likelihood else None
    return Task(
        name=name,
        about=about,
        metrics=METRICS,
        primary="accuracy",
        parser="likelihood/1" if by_likelihood else "label/1",
        fits=fits,
        grader=grader,
        corpus=CORPUS,
        continuations=continuations,
        through=through,
        separator=separator,
        reader=extract,
    )


def _grade(given: str | None, wanted: str, names: Mapping[str, str]) -> Grade:
    readable = given in names
    return Grade(
        {"accuracy": float(given == wanted), "readable": float(readable)},
        {"unreadable": int(not readable)},
        {"label": wanted, "given": given if readable else None},
    )


CLASSIFICATION = classification_task()
