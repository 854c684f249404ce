"""Each bad row is told with its line, its place and the fault; every one is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError, FormatError, UsageError
from nexa.data.sources import tell_shape
from nexa.data.validate import MOST_NAMES, OTHERS, Report, validate
from tests.data.conftest import WriteRows

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}


def checked(path: Path, **options: Any) -> Report:
    return validate([(path, path.name)], **options)


def told(report: Report) -> list[tuple[str, str, str]]:
    return [
        (row.origin, fault.pointer, fault.problem)
        for file in report.files
        for row in file.shown
        for fault in row.faults
    ]


def test_good_rows_pass_under_the_type_that_they_have(write_rows: WriteRows) -> None:
    report = checked(write_rows([CHAT] * 300))
    (file,) = report.files
    assert report.passed
    assert (report.rows, report.bad, file.type) == (300, 0, "chat")
    assert file.evidence == "200 of the first 200 rows have the keys messages"


def test_a_bad_row_is_told_with_its_place(write_rows: WriteRows) -> None:
    rows = [
        CHAT,
        {"messages": [{"role": "asistant", "content": "a"}]},
        {"messages": [{"rol": "user", "content": "a"}]},
        {"messages": [{"role": "user", "content": "q"}]},
        {"conversations": [{"from": "human", "value": "q"}], "system": "s"},
        {"mesages": []},
        "{",
    ]
    report = checked(write_rows(rows))
    assert told(report) == [
        ("rows.jsonl:2", "/messages/0/role", "is 'asistant' - did you mean 'assistant'?"),
        ("rows.jsonl:3", "/messages/0", "has no 'role': key 'rol' - did you mean 'role'?"),
        (
            "rows.jsonl:4",
            "/messages/0",
            "the last turn is 'user': there is no answer to learn from",
        ),
        (
            "rows.jsonl:5",
            "/conversations/0",
            "the last turn is 'user': there is no answer to learn from",
        ),
        (
            "rows.jsonl:6",
            "",
            "has no 'messages'; key 'mesages' - did you mean 'messages'?; "
            "rows of 'chat' are {messages} or {conversations}",
        ),
        (
            "rows.jsonl:7",
            "",
            "broken JSON: Expecting property name enclosed in double quotes at column 2",
        ),
    ]
    assert not report.passed
    assert report.kinds["not as it must be at /messages/*"] == 1
    assert report.to_json()["bad"] == 6


def test_keys_of_no_shape_get_the_shapes_own_hint(write_rows: WriteRows) -> None:
    report = checked(write_rows([{"prompt": "q", "completions": "a"}, {"x": 1}]))
    assert report.files[0].evidence == "none of the first 2 rows has keys that tell its type"
    assert told(report)[0][2].startswith("key 'completions' - did you mean 'completion'?")


def test_a_file_of_two_types_says_so(write_rows: WriteRows) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (file,) = checked(write_rows([pair, pair, CHAT])).files
    assert file.type == "preference"
    assert file.evidence.endswith("have the keys chosen, rejected; 1 are 'chat'")
    assert file.bad == 1


def test_a_type_that_is_asked_for_decides(write_rows: WriteRows) -> None:
    path = write_rows([{"prompt": "q", "target_answer": "a"}])
    assert checked(path, type_name="sft").passed
    report = checked(path, type_name="hypothesis")
    assert ("rows.jsonl:1", "/target_answer", "is a text, not an object") in told(report)
    assert report.files[0].evidence == "as asked for"
    with pytest.raises(UsageError, match="no dataset type 'hypotheses'") as caught:
        checked(path, type_name="hypotheses")
    assert caught.value.fix == "hypothesis"


def test_a_schema_of_ones_own_decides(write_rows: WriteRows, tmp_path: Path) -> None:
    schema = tmp_path / "own.json"
    schema.write_text(json.dumps({"required": ["k"], "properties": {"k": {"minimum": 0}}}))
    report = checked(write_rows([{"k": 1811}, {"k": -1}, {}, "["]), schema=schema)
    assert [(origin, pointer) for origin, pointer, _ in told(report)] == [
        ("rows.jsonl:2", "/k"),
        ("rows.jsonl:3", ""),
        ("rows.jsonl:4", ""),
    ]
    assert report.files[0].type == "own schema"
    assert not report.files[0].unused


def test_only_so_many_are_told_and_all_are_counted(write_rows: WriteRows) -> None:
    bad = {"messages": []}
    files = [(write_rows([CHAT, *[bad] * 30], name), name) for name in ("a.jsonl", "b.jsonl")]
    report = validate(files, limit=40)
    assert [len(file.shown) for file in report.files] == [30, 10]
    assert report.bad == 60
    assert sum(len(file.shown) for file in validate(files, limit=None).files) == 60


def test_a_file_that_cannot_be_read_does_not_hide_the_others(
    write_rows: WriteRows, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    report = validate([(empty, "empty.jsonl"), (write_rows([CHAT]), "rows.jsonl")])
    assert "is empty" in report.files[0].unreadable
    assert report.files[1].rows == 1
    assert not report.passed
    assert report.to_json()["files"][0]["unreadable"]


def test_keys_without_a_use_are_counted_up_to_a_bound(write_rows: WriteRows) -> None:
    rows = [{**CHAT, f"k{n}": 1, "sytem": "s"} for n in range(MOST_NAMES + 50)]
    (file,) = checked(write_rows(rows)).files
    assert file.unused["sytem"] == MOST_NAMES + 50
    assert file.unused[OTHERS] >= 50
    assert len(file.unused) <= MOST_NAMES + 1


def test_every_loader_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,answer,quality_score\nq,a,0.5\nq,,0.5\nq,a,high\n")
    assert told(checked(path)) == [
        ("rows.csv:3", "/answer", "is empty"),
        ("rows.csv:4", "/quality_score", "'quality_score' is a text, not a finite number"),
    ]


def test_pairs_are_no_rows_to_train_on_and_say_what_to_do(write_rows: WriteRows) -> None:
    pair = {**CHAT, "chosen": "a", "rejected": "b"}  # which has the keys of a conversation, too
    with pytest.raises(FormatError, match="preferences cannot be trained on yet") as caught:
        tell_shape(write_rows([pair, pair]))
    assert "{prompt, completion}" in str(caught.value.fix)
    assert isinstance(caught.value, DataError)
