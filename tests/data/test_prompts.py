"""Prompts out of files of any shape, with or without answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.data.prompts import Prompt, Unusable, prompts_of_files
from nexa.data.sources import Source
from tests.data.conftest import WriteRows

USER = {"role": "user", "content": "Why?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "So."}


def read(path: Path) -> list[Prompt | Unusable]:
    return list(prompts_of_files([Source.of(path)]))


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "Why?"}, [USER]),
        ({"prompt": "Why?", "completion": "So."}, [USER]),
        ({"prompt": [SYSTEM, USER]}, [SYSTEM, USER]),
        ({"messages": [SYSTEM, USER]}, [SYSTEM, USER]),
        ({"messages": [USER, ANSWER]}, [USER]),
        ({"messages": [USER, ANSWER, USER]}, [USER, ANSWER, USER]),
        ({"question": "Why?"}, [USER]),
        ({"query": "Why?"}, [USER]),
        ({"instruction": "Why?"}, [USER]),
        ({"instruction": "Why", "input": "?"}, [{"role": "user", "content": "Why\n\n?"}]),
        ({"context": "A", "prompt": "B"}, [{"role": "user", "content": "A\n\nB"}]),
        (
            {"context": "A", "prompt": "B", "target_answer": {"c": 1}},
            [{"role": "user", "content": "A\n\nB"}],
        ),
        ({"text": "Why?"}, [USER]),
    ],
)
def test_a_row_gives_the_turns_before_its_answer(
    write_rows: WriteRows, row: dict[str, Any], messages: list[dict[str, str]]
) -> None:
    [prompt] = read(write_rows([row]))
    assert isinstance(prompt, Prompt)
    assert list(prompt.messages) == messages
    assert prompt.origin == "rows.jsonl:1"


def test_labels_go_with_the_prompt(write_rows: WriteRows) -> None:
    rows = [{"prompt": "A", "domain": "d", "group": 7}, {"prompt": "B", "id": "x"}]
    first, second = read(write_rows(rows))
    assert isinstance(first, Prompt)
    assert isinstance(second, Prompt)
    assert (first.domain, first.group) == ("d", "7")
    assert second.group == "x"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{broken", "broken JSON"),
        ({"colour": "red"}, "no prompt: it has colour"),
        ({}, "no prompt: it has no keys"),
        ({"prompt": " "}, "empty"),
        ({"messages": [SYSTEM, ANSWER]}, "nothing is asked"),
        ({"messages": ["x"]}, "not a message"),
    ],
)
def test_a_line_without_a_prompt_says_why(write_rows: WriteRows, row: Any, problem: str) -> None:
    found = read(write_rows([{"prompt": "A"}, row]))
    assert isinstance(found[1], Unusable)
    assert problem in found[1].problem
    assert found[1].origin == "rows.jsonl:2"


def test_every_line_of_a_text_file_is_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("Why?\n\n  Who?  \nWhere?\n")
    found = read(path)
    assert [(p.origin, p.messages[0]["content"]) for p in found if isinstance(p, Prompt)] == [
        ("asked.txt:1", "Why?"),
        ("asked.txt:3", "Who?"),
        ("asked.txt:4", "Where?"),
    ]
