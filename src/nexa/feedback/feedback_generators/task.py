"""What generators that ask a teacher are given, and what they give: questions, never answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nexa.feedback.items import Item
from nexa.lm.client import Request
from nexa.lm.prompt_templates import NEWEST, PromptTemplate, read_template
from nexa.lm.teaching import Ask, Job

FOLDER = Path(__file__).parent / "templates"
MOST_CHARACTERS = 6000  # of all examples together: they must fit a small teacher's context


@dataclass(frozen=True)
class Ground:
    """A weak slice: its training rows, and the suite's that the model got wrong.

    `wrong` says which training rows are alike to them; no word of theirs is shown to a teacher.
    `missed` are names of fields that the model's answers had wrong, the most frequent first.
    `grounded`: every value of an answer has to stand in its question.
    """

    slice: str
    items: Sequence[Item]
    wrong: Sequence[Item] = ()
    missed: Sequence[str] = ()
    grounded: bool = False


@dataclass(frozen=True)
class Task:
    """How many questions about which slices, and how they are asked for."""

    rows: int
    seed: int
    temperature: float
    max_new_tokens: int
    grounds: Sequence[Ground]
    facts: Sequence[str] = ()

    def turns(self) -> list[tuple[int, Ground, int]]:
        """(number of the question, its slice, how often that slice has come), slices in turn.

        The first ones are the same however many are wanted.
        """
        count = len(self.grounds)
        return [(n, self.grounds[n % count], n // count) for n in range(self.rows)]


@dataclass(frozen=True)
class Question:
    """A question that a teacher wrote, and what it was written from.

    `model` is the row whose form it has: its system turns, and as a rule its group and domain.
    """

    before: tuple[Mapping[str, str], ...]
    model: Item
    parents: tuple[str, ...]
    group: str | None
    ground: Ground
    answer: str | None = None
    """The right answer, where it is known beforehand."""

    @property
    def asked(self) -> str:
        """What is asked, without system turns."""
        return "\n".join(turn["content"] for turn in self.before if turn["role"] != "system")


@dataclass(frozen=True)
class Proposer:
    """A generator that asks a teacher: its prompts, and the requests for questions.

    What an `Ask` makes of its answer is a `Question`.
    """

    about: str
    templates: tuple[str, ...]
    asks: Callable[[Task], list[Ask]]


def template(name: str, version: int = NEWEST) -> PromptTemplate:
    """A prompt of this package by its name, e.g. `propose`."""
    return read_template(FOLDER, name, version)


def ask_for(
    task: Task,
    prompt: str,
    number: int,
    given: Mapping[str, Any],
    parents: Sequence[Item],
    made: Callable[[dict[str, Any]], Question],
) -> Ask:
    """A request for the question of this number; `made` gets what the teacher wrote, read."""
    asked = template(prompt)
    request = Request(
        id=f"{prompt}-{number:06}",
        messages=asked.messages({"given": given}, {"number": str(number + 1)}),
        max_new_tokens=task.max_new_tokens,
        temperature=task.temperature,
        seed=task.seed + number,
        json_schema=asked.schema,
    )
    return Ask(request, tuple(item.id for item in parents), partial(_made, asked, made))


def asked_instead(item: Item, text: str) -> tuple[Mapping[str, str], ...]:
    """A row's turns before the answer with its last question replaced."""
    last = max(at for at, turn in enumerate(item.before) if turn["role"] == "user")
    return (*item.before[:last], {"role": "user", "content": text}, *item.before[last + 1 :])


def alone(item: Item, text: str) -> tuple[Mapping[str, str], ...]:
    """A row's system turns and a question of its own."""
    system = [turn for turn in item.before if turn["role"] == "system"]
    return (*system, {"role": "user", "content": text})


def last_asked(item: Item) -> str:
    """The last question of a row."""
    return next(turn["content"] for turn in reversed(item.before) if turn["role"] == "user")


def fitting(items: Sequence[Item]) -> list[Item]:
    """Those that do not fill a teacher's context; the first one always."""
    sizes = [len(item.asked) + len(item.answer) for item in items]
    return [
        item for at, item in enumerate(items) if at == 0 or sum(sizes[: at + 1]) <= MOST_CHARACTERS
    ]


def _made(
    asked: PromptTemplate, made: Callable[[dict[str, Any]], Question], text: str, job: Job
) -> Question:
    return made(job.read(text, asked.schema))
