"""Rows that give a held-out row away are found, others of its kind are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.overlap import Example, Hit
from nexa.data.filters.leaks import HeldOut, leaking, read_suite, tell_groups
from nexa.data.keys import keys_of
from tests.data.build import pair

HELD_OUT = HeldOut(tuple(Example(*pair(s)) for s in (100, 101)), ("a", "b"), ("Fe", "Co"))


def test_a_leaking_row_names_the_held_out_row_and_why() -> None:
    hits = [
        Hit(3, 1, 1.0, "same prompt"),
        Hit(3, 0, 0.9, "near-duplicate"),
        Hit(7, 0, 0.954, "contained"),
    ]
    assert leaking(hits, HELD_OUT) == {
        3: "same prompt (1.00) of the held-out row b",
        7: "contained (0.95) of the held-out row a",
    }


def test_rows_of_a_held_out_group_stay_and_are_told(notes: list[str]) -> None:
    tell_groups(keys_of(["Fe", "Ni", "Fe", "Co"]), HELD_OUT)
    assert notes == ["3 rows belong to groups that held-out rows belong to; they are kept"]


def test_nothing_is_said_of_other_groups(notes: list[str]) -> None:
    tell_groups(keys_of(["Ni"]), HELD_OUT)
    tell_groups(keys_of(["Ni"]), HeldOut((), (), ()))
    assert notes == []


def test_a_suites_prompts_are_read_without_their_system_turn(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q\u2028r"}]
    rows = [
        {"id": "1", "group": "g", "domain": "d", "messages": messages, "target": "a"},
        {"id": "2", "group": "h", "domain": None, "messages": messages[1:], "target": {"k": "ä"}},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    held_out = read_suite(path)
    assert held_out.examples == (Example("q\u2028r", "a"), Example("q\u2028r", '{"k": "ä"}'))
    assert (held_out.ids, held_out.groups) == (("1", "2"), ("g", "h"))


@pytest.mark.parametrize("text", ["{}", "[1]", "{", '{"messages": [{"role": "user"}]}'])
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="is not a suite's prompts"):
        read_suite(path)
