"""`hard_negative`: training rows like those a model got wrong, with details that nearly answer.

Which rows those are is read off the suite for analysis; what the teacher is shown are training
rows alone, and near misses from other training rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from nexa.feedback.feedback_generators.agreement import record_of
from nexa.feedback.feedback_generators.paraphrase import changed
from nexa.feedback.feedback_generators.task import (
    Ground,
    Proposer,
    Question,
    Task,
    ask_for,
    last_asked,
)
from nexa.feedback.items import Item
from nexa.feedback.likeness import cosine
from nexa.lm.teaching import Ask

NEAR_MISSES = 3  # that a question gets


def asks(task: Task) -> list[Ask]:
    """A request for each question: the rows most like those that were wrong come first."""
    orders = {ground.slice: _most_alike(ground) for ground in task.grounds}
    made = []
    for number, ground, turn in task.turns():
        order = orders[ground.slice]
        item = order[turn % len(order)]
        near = _near_misses(ground, item, random.Random(f"{task.seed} {number}"))
        given = {"question": last_asked(item), "answer": item.answer, "near": near}
        made.append(ask_for(task, "harden", number, given, [item], partial(_harder, ground, item)))
    return made


def _most_alike(ground: Ground) -> list[Item]:
    """The slice's rows, those first whose words are most like a question that was answered wrong.

    Each wrong question has its nearest row before any has its second.
    """
    ranked = [
        sorted(ground.items, key=lambda item: (-cosine(item.asked, wrong.asked), item.id))
        for wrong in ground.wrong
    ]
    rounds = [item for several in zip(*ranked, strict=True) for item in several]
    return list({item.id: item for item in [*rounds, *ground.items]}.values())


def _near_misses(ground: Ground, item: Item, draw: random.Random) -> list[Any]:
    """What would answer the same question of something else: values of the fields, or answers.

    Of a record those fields come first that the model had wrong.
    """
    others = [other for other in ground.items if other.answer != item.answer]
    draw.shuffle(others)
    record = record_of(item.answer)
    if record is None:
        return list(dict.fromkeys(other.answer for other in others))[:NEAR_MISSES]
    found: list[Any] = []
    for name in _fields(record, ground.missed):
        for other in others:
            value = (record_of(other.answer) or {}).get(name)
            pair = {name: value}
            if value not in (None, record[name]) and pair not in found:
                found.append(pair)
                break
    return found[:NEAR_MISSES]


def _fields(record: dict[str, Any], missed: Sequence[str]) -> list[str]:
    """The record's names, those first that were missed."""
    return [*(name for name in missed if name in record), *(n for n in record if n not in missed)]


def _harder(ground: Ground, item: Item, said: dict[str, Any]) -> Question:
    return changed(ground, item, said["question"])


HARD_NEGATIVE = Proposer(
    "training rows like those the model got wrong, with near misses", ("harden",), asks
)
