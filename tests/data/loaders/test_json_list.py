"""A JSON file is cut into its elements; one that is broken costs no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core import values
from nexa.core.errors import DataError, FormatError
from nexa.data.loaders import json_list
from nexa.data.loaders.json_list import read_json
from nexa.data.rows import Line


def lines(tmp_path: Path, content: bytes | str) -> list[Line]:
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_json(path, "x.json"))


def told(found: list[Line]) -> list[tuple[str, object]]:
    return [(line.origin, line.problem or line.data) for line in found]


def test_elements_have_the_lines_they_begin_at(tmp_path: Path) -> None:
    text = json.dumps([{"a": 1, "b": [{"c": '}]\\" ,'}]}, {"a": 2}], indent=2)
    assert told(lines(tmp_path, text)) == [
        ("x.json:2", {"a": 1, "b": [{"c": '}]\\" ,'}]}),
        ("x.json:10", {"a": 2}),
    ]


def test_elements_of_one_line_are_numbered(tmp_path: Path) -> None:
    found = lines(tmp_path, '[{"a": 1}, {"a": 2},\n{"a": 3}, {"a": 4}]')
    assert [line.origin for line in found] == ["x.json:1", "x.json:1[2]", "x.json:2", "x.json:2[2]"]
    assert [Line.at(line.origin, "").element for line in found] == [0, 2, 0, 2]
    assert [Line.at(line.origin, "").number for line in found] == [1, 1, 2, 2]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert told(lines(tmp_path, b'\xef\xbb\xbf[{"a": 1}]')) == [("x.json:1", {"a": 1})]


def test_the_one_list_of_an_object_has_the_rows(tmp_path: Path) -> None:
    whole = {"version": "1", "splits": ["train"], "meta": {"x": [{}]}, "data": [{"a": 1}, {"a": 2}]}
    found = lines(tmp_path, json.dumps(whole, indent=1))
    assert [line.data for line in found] == [{"a": 1}, {"a": 2}]
    found = lines(tmp_path, json.dumps({"data": [{"a": 1}], "more": 3}))
    assert [line.data for line in found] == [{"a": 1}]


def test_a_list_in_an_object_that_is_broken_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    found = lines(tmp_path, '{"data": [\n{"a": 1},\n{"a": "2}\n], "x": 1}')
    assert [line.data for line in found] == [{"a": 1}, None]
    (line,) = lines(tmp_path, '{"x": 1')
    assert line.problem == "broken JSON: what begins here never ends (line 1)"
    found = lines(tmp_path, '{"x": "1, "data": 2}')
    assert [line.problem for line in found] == [
        "broken JSON: a text does not end on its line (line 1)"
    ]


def test_an_object_with_several_lists_is_a_question(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="2 lists of rows") as caught:
        lines(tmp_path, '{"train": [{"a": 1}],\n "test": [{"a": 2}]}')
    assert caught.value.found == "one begins at line 1, one begins at line 2"


def test_an_object_that_is_a_row_is_one(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert [line.data for line in lines(tmp_path, json.dumps(row, indent=2))] == [row]
    assert [line.data for line in lines(tmp_path, '{"x": 1}')] == [{"x": 1}]


def test_objects_one_after_the_other_are_rows(tmp_path: Path) -> None:
    text = json.dumps({"question": "q", "answer": "a"}, indent=1)
    found = lines(tmp_path, f"{text}\n{text}\n] {{}}")
    assert [line.origin for line in found] == ["x.json:1", "x.json:5", "x.json:9", "x.json:9[2]"]
    assert found[2].problem.startswith("broken JSON")


def test_json_lines_under_another_name_are_read_as_such(tmp_path: Path) -> None:
    found = lines(tmp_path, '{"a": 1}\n{"a": \n{"a": 3}\n')
    assert [line.number for line in found] == [1, 2, 3]
    assert [line.data for line in found] == [{"a": 1}, None, {"a": 3}]
    for broken in ('{"a": 1', "}{", "nothing", '"a', '{"a"]', "{{", '{"'):
        found = lines(tmp_path, f'{broken}\n{{"a": 2}}')
        assert [line.data for line in found] == [None, {"a": 2}]


def test_a_text_without_an_end_costs_its_element(tmp_path: Path) -> None:
    found = lines(tmp_path, '[\n {"a": "1},\n {"a": 2},\n {"a": 3}\n]')
    assert told(found) == [
        ("x.json:2", "broken JSON: a text does not end on its line (line 2)"),
        ("x.json:3", {"a": 2}),
        ("x.json:4", {"a": 3}),
    ]


def test_a_bracket_without_an_end_costs_its_element(tmp_path: Path) -> None:
    found = lines(tmp_path, '[\n{"a": 1,\n{"a": 2},\n{"a": [3}\n]')
    assert told(found) == [
        ("x.json:2", "broken JSON: } closes what is not open (line 4)"),
        ("x.json:3", {"a": 2}),
        ("x.json:4", "broken JSON: } closes what is not open (line 4)"),
    ]
    assert told(lines(tmp_path, '[{"a": 1}, {"a": 2'))[1:] == [
        ("x.json:1[2]", "broken JSON: what begins here never ends (line 1)"),
    ]
    assert told(lines(tmp_path, '[{"a": 1}, 2'))[1:] == [
        ("x.json:1[2]", "not an object but a number"),
        ("x.json:1[3]", "broken JSON: the file ends before its list does (line 1)"),
    ]
    assert told(lines(tmp_path, '[{"a": 1},\n'))[1:] == [
        ("x.json:2", "broken JSON: the file ends before its list does (line 2)"),
    ]


def test_what_is_no_object_is_handed_on(tmp_path: Path) -> None:
    found = lines(tmp_path, '[1, "a, b" , null, x{"a": 1}, [2], {"a": 2} y, }, z]\n over')
    assert [line.problem or line.data for line in found] == [
        "not an object but a number",
        "not an object but a text",
        "not an object but null",
        "broken JSON: Expecting value at column 1",
        {"a": 1},
        "not an object but a list",
        {"a": 2},
        "broken JSON: Expecting value at column 1",
        "broken JSON: Expecting value at column 1",
        "broken JSON: Expecting value at column 1",
        "broken JSON: text after the end of the list (line 2)",
    ]


def test_a_mistake_further_down_is_told_by_its_line(tmp_path: Path) -> None:
    (line, _) = lines(tmp_path, '[\n{"a": 1,\n "b" 2},\n{}]')
    assert line.problem == "broken JSON: Expecting ':' delimiter at line 3, column 6"


def test_an_element_longer_than_a_row_can_be_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(values, "MAX_ROW_BYTES", 100)
    big = json.dumps({f"k{i}": i for i in range(40)})
    found = lines(tmp_path, f'[\n{big},\n{{"a": 2}}]')
    assert told(found) == [
        ("x.json:2", "broken JSON: longer than a row can be, or without an end (line 2)"),
        ("x.json:3", {"a": 2}),
    ]
    found = lines(tmp_path, f'[{big}, {{"a": 2}}]')
    assert [line.problem or line.data for line in found] == ["longer than 0 MB", {"a": 2}]


@pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf", b"[]", b"[ , ]"])
def test_an_empty_file_or_list_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        lines(tmp_path, content)


def test_a_file_that_is_no_json_is_told_by_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not JSON") as caught:
        lines(tmp_path, "question,answer\n1,2\n")
    assert "it begins with 'question,answer" in str(caught.value.found)
