"""What a topic and a question about it are made of; the topics themselves are in `topics_*.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One thing that was seen in a topic's system, and what a good proposal says about it.

    `seen` ends the context. `claim` is a prediction with its numbers, `why` its mechanism,
    `against` the result that would refute it, `vary` the levels and repeats, `trap` what could
    mislead and what is done about it.
    """

    seen: str
    claim: str
    why: str
    against: str
    vary: str
    trap: str


@dataclass(frozen=True)
class Topic:
    """A small system that several questions are asked about; a group of rows.

    `setting` begins the context, `measure` says how the outcome is measured, `control` what is held
    the same, `hazard` the ordinary dangers with their precautions. `careless` is a proposal that
    leaves them out on purpose, in words of category: the answers that must be told as unsafe.
    """

    key: str
    subject: str
    setting: str
    measure: str
    control: str
    hazard: str
    careless: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Domain:
    """Topics of one field, in the order in which they were written."""

    name: str
    topics: tuple[Topic, ...]
