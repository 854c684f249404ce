"""`teacher`: new questions of a weak slice, by the example of its training rows, about facts."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from nexa.feedback.feedback_generators.task import (
    Ground,
    Proposer,
    Question,
    Task,
    alone,
    ask_for,
    fitting,
)
from nexa.feedback.items import Item
from nexa.lm.teaching import Ask

EXAMPLES = 3


def asks(task: Task) -> list[Ask]:
    """A request for each question: some rows of its slice, and one of the facts in turn."""
    facts = list(task.facts)
    random.Random(task.seed).shuffle(facts)
    return [_ask(task, n, ground, facts[n % len(facts)] if facts else None)
            for n, ground, _ in task.turns()]  # fmt: skip


def _ask(task: Task, number: int, ground: Ground, fact: str | None) -> Ask:
    draw = random.Random(f"{task.seed} {number}")
    shown = fitting(draw.sample(list(ground.items), min(EXAMPLES, len(ground.items))))
    given: dict[str, Any] = {
        "examples": [{"question": item.asked, "answer": item.answer} for item in shown]
    }
    if fact is not None:
        given["facts"] = fact
    return ask_for(task, "propose", number, given, shown, partial(_question, ground, shown, fact))


def _question(
    ground: Ground, shown: list[Item], fact: str | None, said: dict[str, Any]
) -> Question:
    first = shown[0]
    return Question(
        before=alone(first, said["question"]),
        model=first,
        parents=tuple(item.id for item in shown),
        # About facts it is about something else than its example is.
        group=first.group if fact is None else None,
        ground=ground,
    )


TEACHER = Proposer("new questions of weak slices, in the form of training rows", ("propose",), asks)
