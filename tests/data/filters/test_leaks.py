"""Rows that give a held-out row away are found, others of its kind are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.overlap import Example
from nexa.data.filters.leaks import HeldOut, drop_leaks, read_suite
from tests.data.build import pair, row


def test_a_leaking_row_names_the_held_out_row_and_why() -> None:
    rows = [row(*pair(seed), seed) for seed in range(30)]
    rows.append(row(pair(100)[0], "another answer", 30))
    asked, said = pair(101)
    rows.append(row(f"Please: {asked}", said, 31))
    held_out = HeldOut(
        tuple(Example(*pair(s)) for s in (100, 101, 102)), ("a", "b", "c"), ("g",) * 3
    )
    kept, rejects = drop_leaks(rows, held_out)
    assert kept == rows[:30]
    assert [reject.line.number for reject in rejects] == [30, 31]
    assert rejects[0].detail == "same prompt (1.00) of the held-out row a"
    assert rejects[1].detail.startswith("near-duplicate (0.")
    assert {reject.reason for reject in rejects} == {"leaks a held-out row"}


def test_rows_of_a_held_out_group_stay_and_are_told(notes: list[str]) -> None:
    rows = [row(*pair(seed), seed, group="Fe") for seed in range(3)]
    held_out = HeldOut((Example(*pair(9)),), ("x",), ("Fe",))
    assert drop_leaks(rows, held_out) == (rows, [])
    assert notes == ["3 rows belong to groups that held-out rows belong to; they are kept"]


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
