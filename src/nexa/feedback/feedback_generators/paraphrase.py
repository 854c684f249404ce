"""`paraphrase`: training rows of weak slices asked in other words; their answers stay."""

from __future__ import annotations

from functools import partial
from typing import Any

from nexa.core.overlap import normalise, numbers
from nexa.feedback.feedback_generators.choosing import in_turn
from nexa.feedback.feedback_generators.task import (
    Ground,
    Proposer,
    Question,
    Task,
    ask_for,
    asked_instead,
    last_asked,
)
from nexa.feedback.items import Item
from nexa.lm.teaching import Ask, NoRow

NUMBERS = "numbers changed"
UNCHANGED = "nothing was changed"


def asks(task: Task) -> list[Ask]:
    """A request for each question: a row of its slice, each before any comes again."""
    orders = {
        ground.slice: in_turn(ground.items, range(len(ground.items)), task.seed)
        for ground in task.grounds
    }
    made = []
    for number, ground, turn in task.turns():
        order = orders[ground.slice]
        item = ground.items[order[turn % len(order)]]
        given = {"question": last_asked(item)}
        made.append(ask_for(task, "reword", number, given, [item], partial(reworded, ground, item)))
    return made


def reworded(ground: Ground, item: Item, said: dict[str, Any]) -> Question:
    """The row's question as the teacher put it, with the row's answer.

    Raises:
        NoRow: a number was changed, or nothing was.
    """
    before, after = last_asked(item), said["question"]
    if numbers(before) != numbers(after):
        was, now = (", ".join(numbers(words)) or "none" for words in (before, after))
        raise NoRow(NUMBERS, f"{was} became {now}"[:500])
    return changed(ground, item, after)


def changed(ground: Ground, item: Item, text: str) -> Question:
    """A row's question as it is asked now, with the row's answer.

    Raises:
        NoRow: it is asked as before.
    """
    if normalise(text).casefold() == normalise(last_asked(item)).casefold():
        raise NoRow(UNCHANGED, text[:500])
    return Question(
        before=asked_instead(item, text),
        model=item,
        parents=(item.id,),
        group=item.group,
        answer=item.answer,
        ground=ground,
    )


PARAPHRASE = Proposer("training rows of weak slices in other words", ("reword",), asks)
