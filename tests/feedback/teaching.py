"""A teacher for the scripted endpoint: it knows its subjects, and is wrong now and then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nexa.core.records import Artifact, DatasetBody, Draft, SyntheticBody, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.feedback_generators.asking import ProposeSpec, propose
from nexa.lm.client import Price, Request
from nexa.lm.requests import Pace
from nexa.lm.scripted_chat import ScriptedChat
from nexa.lm.teaching import Teacher
from tests.feedback import made
from tests.support.teacher import inside, number_of

FIRST = 5000  # its own rows begin where no other's are
KNOWN = {
    "furnace": re.compile(r"melt of (\w+) held (\d+) kelvin while (\d+) grams"),
    "letter": re.compile(r"of (\w+) rests (\d+) weeks in our cellar and costs (\d+) crowns"),
    "catalogue": re.compile(r"(\w+) wire, (\d+) metres on a reel, rated (\d+) volts"),
}
Messages = list[dict[str, str]]
PRICE = Price(1.0, 2.0, source="a test")


def solved(question: str) -> dict[str, Any]:
    """The right answer to a question of the tests, in any words that keep the heart of it."""
    for domain, pattern in KNOWN.items():
        if found := pattern.search(question):
            a, b = (int(told) for told in found.groups()[1:])
            return {"metal": found[1], **dict(zip(made.FIELDS[domain], (a, b), strict=True))}
    return {"unknown": question}


def domain_of(question: str) -> str:
    """Which of the kinds a question is of."""
    return next(name for name, pattern in KNOWN.items() if pattern.search(question))


def wrong_in(share: float, seed: int = 0) -> Callable[[Messages], str]:
    """A teacher that is wrong in a share of its answers, each by itself.

    What it says instead of one of the numbers is a number of the question, or made up.
    """

    def teach(messages: Messages) -> str:
        given = inside(messages)
        if "question" not in given or "answer" in given:
            return written(messages, given)
        if messages[0]["content"].startswith("You put questions"):
            return written(messages, given)
        answer = solved(given["question"])
        drawn = hashlib.sha256(f"{seed}{messages}".encode()).digest()
        if drawn[0] < share * 256:
            name = list(answer)[-1 - drawn[1] % 2]
            figures = [int(f) for f in re.findall(r"\d+", given["question"])]
            made_up = int.from_bytes(drawn[2:4], "big")
            answer[name] = made_up if drawn[4] % 2 else figures[drawn[5] % len(figures)]
        return json.dumps({"answer": answer})

    return teach


def written(messages: Messages, given: dict[str, Any]) -> str:
    """A new question, a question in other words, or one with a near miss."""
    if "examples" in given:
        domain = domain_of(given["examples"][0]["question"])
        return json.dumps({"question": made.asked(domain, FIRST + number_of(messages))})
    if "near" in given:
        near = json.dumps(given["near"])
        return json.dumps({"question": f"{given['question']} (Others: {near}.)"})
    return json.dumps({"question": f"Please look at this. {given['question']}"})


teach = wrong_in(0.0)


def teacher_of(
    folder: Path, said: Callable[[Messages], str] = teach, heard: list[Request] | None = None
) -> Teacher:
    """That teacher in this process; what it is asked is kept in `heard`."""

    def answer(request: Request) -> str:
        if heard is not None:
            heard.append(request)
        return said([dict(turn) for turn in request.messages])

    model = ScriptedChat(answer, name="wise", price=PRICE)
    return Teacher("wise", dict(model.identity), model, folder / "journal.jsonl", Pace())


def proposed(
    tmp_path: Path,
    store: Store,
    weak: Artifact[WeaknessBody],
    dataset: Artifact[DatasetBody],
    said: Callable[[Messages], str] = teach,
    heard: list[Request] | None = None,
    **fields: Any,
) -> tuple[Draft[SyntheticBody], list[dict[str, Any]]]:
    """What `propose` drafts, with that teacher; what it is asked is kept in `heard`."""
    answers = fields.pop("answers", None)
    spec = ProposeSpec(
        **{"name": "new", "teacher": teacher_of(tmp_path, said, heard), "rows": 8, **fields}
    )
    draft = propose(spec, weakness=weak, dataset=dataset, answers=answers, store=store)
    return draft, lines(draft, "rows.jsonl")


def lines(draft: Draft[SyntheticBody], name: str) -> list[dict[str, Any]]:
    """The lines of one of its files."""
    data = draft.files[name]
    assert isinstance(data, bytes)
    return [json.loads(line) for line in data.splitlines()]
