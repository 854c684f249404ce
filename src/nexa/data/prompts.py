"""Prompts for a teacher: those of a dataset's training rows, or of files of rows or of questions.

A row in any shape of `schemas/` gives the turns before its answer. A row that has no answer yet
(`{"prompt": ...}`, `{"question": ...}`, `{"instruction": ..., "input": ...}`, messages that end
with the user's) is read as if it had one. In a text file every line is a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.data.loaders import loader_for, suffix_of
from nexa.data.rows import Content, Line
from nexa.data.schemas import SCHEMAS, RowProblem, accepted, shape_of
from nexa.data.seeds import training_seeds
from nexa.data.sources import Source
from nexa.lm.plain_text import is_text

STAND_IN = "-"
OF_LINES = ("txt", "md")  # every line of these is a prompt
# What a row without an answer has, and which key the answer of its shape would have.
UNANSWERED = (
    ("instruction", "output"),
    ("question", "answer"),
    ("query", "response"),
    ("prompt", "completion"),
)


@dataclass(frozen=True)
class Prompt:
    """What a teacher is asked, and the labels that its answer inherits."""

    origin: str
    messages: tuple[Mapping[str, str], ...]
    group: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Unusable:
    """A line without a prompt, and why."""

    origin: str
    problem: str


def prompts_of_dataset(dataset: Artifact[DatasetBody], store: Store) -> list[Prompt]:
    """The prompts of the training rows; the origin of each is its row's id.

    Raises:
        DataError: there are no training rows, or they are plain texts.
    """
    return [
        Prompt(seed.id, seed.before, seed.group, seed.domain)
        for seed in training_seeds(dataset, store)
    ]


def prompts_of_files(sources: Sequence[Source]) -> Iterator[Prompt | Unusable]:
    """The prompts of files, in their order.

    Raises:
        DataError: a file cannot be read.
    """
    for source in sources:
        for line in loader_for(source.path)(source.path, source.name):
            if suffix_of(source.path) in OF_LINES and line.data is not None:
                yield from _lines(line, str(line.data.get("text", "")))
            else:
                yield _prompt(line)


def _lines(piece: Line, text: str) -> Iterator[Prompt]:
    """Every line of a piece of a text file that is not blank."""
    for offset, words in enumerate(text.split("\n")):
        if words.strip():
            origin = f"{piece.file}:{piece.number + offset}"
            yield Prompt(origin, ({"role": "user", "content": words.strip()},))


def _prompt(line: Line) -> Prompt | Unusable:
    if line.data is None:
        return Unusable(line.origin, line.problem)
    try:
        content = _content(line.data)
    except RowProblem as problem:
        return Unusable(line.origin, str(problem))
    messages: tuple[Mapping[str, str], ...] = content.messages[:-1]
    if is_text(content.messages):
        messages = ({"role": "user", "content": content.messages[-1]["content"]},)
    if not any(turn["role"] == "user" for turn in messages):
        return Unusable(line.origin, "nothing is asked: there is no turn of the user")
    return Prompt(line.origin, messages, content.group or content.id, content.domain)


def _content(data: Mapping[str, Any]) -> Content:
    """The row with an answer, its own or a stand-in.

    Raises:
        RowProblem: it has no prompt.
    """
    messages = data.get("messages")
    if isinstance(messages, list) and messages and _role(messages[-1]) == "user":
        answer = {"role": "assistant", "content": STAND_IN}
        return SCHEMAS["messages"].convert({**data, "messages": [*messages, answer]})
    name = shape_of(data)
    if name is not None:
        return SCHEMAS[name].convert(data)
    for asked, answered in UNANSWERED:
        if asked in data:
            whole = {**data, answered: STAND_IN}
            if asked == "prompt" and data.get("context"):
                whole = {**data, "target_answer": STAND_IN}
            return SCHEMAS[shape_of(whole) or "completion"].convert(whole)
    keys = ", ".join(map(str, list(data)[:8])) or "no keys"
    raise RowProblem(f"no prompt: it has {keys}. {accepted()}, each with or without its answer")


def _role(turn: Any) -> Any:
    return turn.get("role") if isinstance(turn, dict) else None
