"""What a task is made of: metrics with versions, a parser, and how one answer is graded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

DECIMALS = 9  # of a score that was computed: another machine's last bits may differ

Through = Literal["template", "plain"]


@dataclass(frozen=True)
class Metric:
    """A number from 0 to 1 for one answer. `version` is raised when equal answers score anew."""

    name: str
    version: int
    about: str


@dataclass(frozen=True)
class Grade:
    """One answer's scores by metric; `detail` counts what they were made of.

    `statistics` is what metrics of the whole corpus are made of: see `nexa.core.corpus_metrics`.
    """

    scores: Mapping[str, float]
    detail: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Likelihoods:
    """What a model answers to a likelihood task: for each continuation, in its order."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]


# Answer (a text; of a likelihood task `Likelihoods`), target -> grade.
Grader = Callable[[Any, str], Grade]
Continuations = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Task:
    """A kind of question with a rule that marks its answers.

    `fits` tells from the targets whether they are of this kind; `grader` reads all targets once
    (a schema may hang on them) and gives the function that marks one answer. `primary` is the
    metric that a verdict is drawn from, `parser` names how an answer is read.

    A task with `continuations` is answered by likelihoods: of each text that they make of a target,
    `through` the chat template or as plain text after `separator`. `corpus` names metrics that no
    single row has. `wanted` is what a right answer would say, where that is not the target itself;
    None where nobody knows. `reader` is the part of an answer that further metrics compare;
    None: there is none.
    """

    name: str
    about: str
    metrics: tuple[Metric, ...]
    primary: str
    parser: str
    fits: Callable[[Sequence[str]], bool]
    grader: Callable[[Sequence[str]], Grader]
    corpus: tuple[str, ...] = ()
    continuations: Continuations | None = None
    through: Through = "template"
    separator: str = " "
    runs_code: bool = False
    wanted: Callable[[str], str | None] = str
    reader: Callable[[str], str | None] = str
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, int]:
        """Every metric's name and version."""
        return {metric.name: metric.version for metric in self.metrics}

    @property
    def by_likelihood(self) -> bool:
        """Whether a model is asked how likely texts are, and not for one of its own."""
        return self.continuations is not None


def rounded(value: float) -> float:
    """A score as rows have it."""
    return round(value, DECIMALS) + 0.0  # + 0.0: no negative zero
