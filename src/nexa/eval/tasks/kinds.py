"""What a task's YAML may say, kind by kind, and the task that it makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from nexa.core.config_base import Count, Positive, Section
from nexa.eval.sandbox import Limits
from nexa.eval.tasks import extract
from nexa.eval.tasks.choices import choices_task
from nexa.eval.tasks.classification import classification_task
from nexa.eval.tasks.code import code_task
from nexa.eval.tasks.extract import Extract, Step
from nexa.eval.tasks.json_record import JSON_RECORD
from nexa.eval.tasks.json_schema import json_schema_task
from nexa.eval.tasks.numeric import RELATIVE, Tolerance, numeric_task
from nexa.eval.tasks.perplexity import perplexity_task
from nexa.eval.tasks.ranking import K, ranking_task
from nexa.eval.tasks.task import Task, Through
from nexa.eval.tasks.text import text_task

Labels = Annotated[tuple[str, ...], Field(min_length=2)]
Nonnegative = Annotated[float, Field(ge=0, strict=True)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class AnswerSection(Section):
    """Which part of an answer counts."""

    take: Literal[
        "whole", "first_line", "last_line", "last_number", "letter", "code", "regex", "json_pointer"
    ] = "whole"
    pattern: str | None = Field(default=None, description="of regex; its last match counts")
    group: Count = Field(default=1, description="of the pattern: which group; 0: all of it")
    pointer: str | None = Field(default=None, description="of json_pointer, as in RFC 6901")

    @model_validator(mode="after")
    def _complete(self) -> AnswerSection:
        if (self.take == "regex") != (self.pattern is not None):
            raise ValueError("take: regex and a pattern belong together")
        if (self.take == "json_pointer") != (self.pointer is not None):
            raise ValueError("take: json_pointer and a pointer belong together")
        if self.pointer and not self.pointer.startswith("/"):
            raise ValueError("a JSON Pointer begins with /")
        return self

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern

    @property
    def extract(self) -> Extract:
        """The function that finds it."""
        if self.pattern is not None:
            groups = re.compile(self.pattern).groups
            return extract.by_pattern(self.pattern, min(self.group, groups))
        if self.pointer is not None:
            return extract.by_pointer(self.pointer)
        return extract.NAMED[self.take]


class TaskSection(Section):
    """What every kind may say."""

    name: TaskName | None = Field(default=None, description="left out: the file's")
    kind: str
    about: str = ""
    primary: str | None = Field(default=None, description="the metric that a verdict is drawn from")
    metrics: tuple[str, ...] = Field(default=(), description="none: all of the kind's")


class TextSection(TaskSection):
    """Text, compared by its words."""

    answer: AnswerSection = AnswerSection()
    normalise: tuple[Step, ...] = ("strip",)


class RecordSection(TaskSection):
    """A JSON object, compared with the target's."""


class LikelihoodSection(TaskSection):
    """What is asked by likelihood."""

    through: Through = Field(
        default="template", description="the chat template, or plain: text that goes on"
    )
    separator: str = Field(default=" ", description="of plain: between prompt and continuation")


class ChoicesSection(LikelihoodSection):
    """Multiple choice by likelihood."""

    choices: Labels | None = Field(default=None, description="left out: each row names its own")


class PerplexitySection(LikelihoodSection):
    """How well the targets are predicted."""


class ClassificationSection(LikelihoodSection):
    """One of some labels."""

    labels: Labels | None = Field(default=None, description="left out: those of the targets")
    by: Literal["answer", "likelihood"] = "answer"
    answer: AnswerSection = AnswerSection()
    normalise: tuple[Step, ...] = ("strip", "casefold")

    @model_validator(mode="after")
    def _labelled(self) -> ClassificationSection:
        if self.by == "likelihood" and self.labels is None:
            raise ValueError("by: likelihood needs labels")
        return self


class RankingSection(LikelihoodSection):
    """Candidates in an order."""

    by: Literal["answer", "likelihood"] = "likelihood"
    by_bytes: bool = Field(default=True, description="of likelihood: nats a byte, not in all")
    k: Positive = Field(default=K, description="NDCG of the first k")
    answer: AnswerSection = AnswerSection()


class SchemaSection(TaskSection):
    """JSON of one schema."""

    model_config = ConfigDict(protected_namespaces=(), populate_by_name=False)

    json_schema: dict[str, Any] = Field(alias="schema")
    answer: AnswerSection = AnswerSection()


class ToleranceSection(Section):
    """How far a number may be off."""

    relative: Nonnegative = RELATIVE
    absolute: Nonnegative = 0.0
    digits: Positive | None = Field(default=None, description="significant ones that must agree")


class NumericSection(TaskSection):
    """A number with a unit."""

    unit: str = Field(default="", description="of targets that name none")
    tolerance: ToleranceSection = ToleranceSection()
    answer: AnswerSection = AnswerSection()
    number: Literal["first", "last"] = Field(default="last", description="which one counts")


class CodeSection(TaskSection):
    """Python code that is run."""

    wall_s: Annotated[float, Field(gt=0, le=600)] = Limits.wall_s
    cpu_s: Positive = Limits.cpu_s
    memory_mb: Annotated[int, Field(ge=64, strict=True)] = Limits.memory_mb
    file_mb: Positive = Limits.file_mb
    answer: AnswerSection = AnswerSection(take="code")


@dataclass(frozen=True)
class Kind:
    """A kind of task: what its YAML says, and what is made of it."""

    model: type[TaskSection]
    make: Callable[[str, Any], Task]

    def build(self, name: str, said: TaskSection) -> Task:
        """The task, with the primary metric that was asked for.

        Raises:
            EvalError: values that make none.
            ValueError: a primary metric that it does not have.
        """
        task = self.make(name, said)
        return task if said.primary is None else replace(task, primary=said.primary)


def _text(name: str, said: TextSection) -> Task:
    return text_task(name, said.about, extract=said.answer.extract, normalise=said.normalise)


def _record(name: str, said: RecordSection) -> Task:
    return replace(JSON_RECORD, name=name, about=said.about)


def _choices(name: str, said: ChoicesSection) -> Task:
    return choices_task(
        name,
        said.about,
        choices=said.choices or (),
        through=said.through,
        separator=said.separator,
    )


def _perplexity(name: str, said: PerplexitySection) -> Task:
    return perplexity_task(name, said.about, through=said.through, separator=said.separator)


def _classification(name: str, said: ClassificationSection) -> Task:
    return classification_task(
        name,
        said.about,
        labels=said.labels or (),
        extract=said.answer.extract,
        normalise=said.normalise,
        by_likelihood=said.by == "likelihood",
        through=said.through,
        separator=said.separator,
    )


def _ranking(name: str, said: RankingSection) -> Task:
    return ranking_task(
        name,
        said.about,
        by_likelihood=said.by == "likelihood",
        by_bytes=said.by_bytes,
        k=said.k,
        extract=said.answer.extract,
        through=said.through,
        separator=said.separator,
    )


def _schema(name: str, said: SchemaSection) -> Task:
    return json_schema_task(name, said.about, schema=said.json_schema, extract=said.answer.extract)


def _numeric(name: str, said: NumericSection) -> Task:
    return numeric_task(
        name,
        said.about,
        unit=said.unit,
        tolerance=Tolerance(**said.tolerance.model_dump()),
        extract=said.answer.extract,
        last=said.number == "last",
    )


def _code(name: str, said: CodeSection) -> Task:
    limits = Limits(said.wall_s, said.cpu_s, said.memory_mb, said.file_mb)
    return code_task(name, said.about, limits=limits, extract=said.answer.extract)


KINDS = {
    "text": Kind(TextSection, _text),
    "json_record": Kind(RecordSection, _record),
    "json_schema": Kind(SchemaSection, _schema),
    "choices": Kind(ChoicesSection, _choices),
    "classification": Kind(ClassificationSection, _classification),
    "ranking": Kind(RankingSection, _ranking),
    "perplexity": Kind(PerplexitySection, _perplexity),
    "numeric": Kind(NumericSection, _numeric),
    "code": Kind(CodeSection, _code),
}
