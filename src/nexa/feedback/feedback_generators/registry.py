"""The visible table of generators. A new one is a file here and a line below, or an entry point.

A plugin's entry point in `nexa.generator` gives a `Selector` or a `Proposer`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nexa.core.plugins import Registry
from nexa.feedback.feedback_generators.choosing import any_rows, weak_rows
from nexa.feedback.feedback_generators.hard_negative import HARD_NEGATIVE
from nexa.feedback.feedback_generators.paraphrase import PARAPHRASE
from nexa.feedback.feedback_generators.task import Proposer
from nexa.feedback.feedback_generators.teacher import TEACHER
from nexa.feedback.items import Item

Choose = Callable[[Sequence[Item], Mapping[str, Sequence[int]], int, int], list[int]]


@dataclass(frozen=True)
class Selector:
    """A generator that chooses among rows that are there.

    `choose` gets the pool's unused rows, the places of each weak slice's rows, how many are wanted
    and a seed; it returns places. `aims`: it needs to know what is weak.
    """

    about: str
    choose: Choose
    aims: bool


POOL = Selector("unused rows of weak slices, spread over groups", weak_rows, aims=True)
RANDOM = Selector("any unused rows: what as many bring that nobody aimed", any_rows, aims=False)

BUILT_IN: Mapping[str, Selector | Proposer] = {
    "pool": POOL,
    "random": RANDOM,
    "teacher": TEACHER,
    "paraphrase": PARAPHRASE,
    "hard_negative": HARD_NEGATIVE,
}
GENERATORS: Registry[Selector | Proposer] = Registry("generator", BUILT_IN)


def selector(name: str) -> Selector | None:
    """The generator of this name, where it chooses among rows that are there.

    Raises:
        UnknownPlugin: there is none of this name; says the nearest.
    """
    found = GENERATORS[name]
    return found if isinstance(found, Selector) else None


def proposer(name: str) -> Proposer | None:
    """The generator of this name, where it asks a teacher.

    Raises:
        UnknownPlugin: there is none of this name; says the nearest.
    """
    found = GENERATORS[name]
    return found if isinstance(found, Proposer) else None
