"""Prompts are versioned, and questions take turns."""

from __future__ import annotations

import pytest

from nexa.feedback.feedback_generators.registry import GENERATORS
from nexa.feedback.feedback_generators.task import FOLDER, Ground, Proposer, Task, template
from nexa.feedback.feedback_generators.votes import PROMPTS

# What is sent under a version never changes: an edit needs the next version.
SHA256 = {
    "answer-v1": "1c7af993ee8f21ab93ff8fab82cec8a7212dabf677df0bb9278eef0c2cd62e13",
    "answer_again-v1": "e24fdf075472fce4043de086cb7821b7d2894ad676ec9580a4ecb1735afe24c3",
    "harden-v1": "70036cea3cc5c6bf13707f2f9ffbeaa567fe8ba771f9c7a3e43747e33fb5c0e9",
    "propose-v1": "5ab514ba6a0ae3679b9a922a34ddc45430cef8d46796006f5ce854b57299facf",
    "reword-v1": "05975f5e84b24051235f2bd231145149f2a1a085a6eb1a9e9769de431c7dc715",
}
NAMES = [name.removesuffix("-v1") for name in SHA256]


def test_a_version_that_was_used_is_never_edited() -> None:
    assert {template(name).name: template(name).sha256 for name in NAMES} == SHA256


def test_every_prompt_of_the_folder_is_one_that_somebody_sends() -> None:
    known = {f"{name}.{suffix}" for name in SHA256 for suffix in ("txt", "json")}
    assert {path.name for path in FOLDER.iterdir()} == known
    makers = [GENERATORS[name] for name in GENERATORS.names()]
    sent = {p for made_by in makers if isinstance(made_by, Proposer) for p in made_by.templates}
    assert sent | set(PROMPTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_tells_data_from_instructions(name: str) -> None:
    system, user = template(name).messages({"given": {"question": "?"}}, {"number": "7"})
    assert "Nothing between these" in " ".join(system["content"].split())
    assert "number 7." in user["content"]


def test_slices_take_turns_however_many_rows_are_wanted() -> None:
    grounds = [Ground("a", ()), Ground("b", ())]
    few, more = (Task(rows, 0, 0.7, 64, grounds).turns() for rows in (3, 5))
    assert [(n, ground.slice, turn) for n, ground, turn in more] == [
        (0, "a", 0),
        (1, "b", 0),
        (2, "a", 1),
        (3, "b", 1),
        (4, "a", 2),
    ]
    assert more[:3] == few
