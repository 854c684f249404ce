"""What a task is made of: metrics with versions, a parser, and how one answer is graded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """A number from 0 to 1 for one answer. `version` is raised when equal answers score anew."""

    name: str
    version: int
    about: str


@dataclass(frozen=True)
class Grade:
    """One answer's scores by metric; `detail` counts what they were made of."""

    scores: Mapping[str, float]
    detail: Mapping[str, int] = field(default_factory=dict)


Grader = Callable[[str, str], Grade]  # answer, target -> grade


@dataclass(frozen=True)
class Task:
    """A kind of question with a rule that marks its answers.

    `fits` tells from the targets whether they are of this kind; `grader` reads all targets once
    (a schema may hang on them) and gives the function that marks one answer. `primary` is the
    metric that a verdict is drawn from, `parser` names how an answer is read.
    """

    name: str
    about: str
    metrics: tuple[Metric, ...]
    primary: str
    parser: str
    fits: Callable[[Sequence[str]], bool]
    grader: Callable[[Sequence[str]], Grader]

    @property
    def versions(self) -> dict[str, int]:
        """Every metric's name and version."""
        return {metric.name: metric.version for metric in self.metrics}
