"""Tables: records by the line they begin at, and a broken one costs its first line only."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core import values
from nexa.core.errors import DataError, FormatError
from nexa.core.identity import sha256_bytes
from nexa.data.loaders.table import read_csv, read_tsv
from nexa.data.rows import Line


def lines(tmp_path: Path, content: bytes, name: str = "x.csv") -> list[Line]:
    path = tmp_path / name
    path.write_bytes(content)
    return list((read_tsv if name.endswith("tsv") else read_csv)(path, name))


def told(found: list[Line]) -> list[tuple[int, object]]:
    return [(line.number, line.problem or line.data) for line in found]


def test_a_record_may_take_several_lines(tmp_path: Path) -> None:
    found = lines(tmp_path, b'\xef\xbb\xbfa, b\r\n1,"x\r\n""y"" \n"\r\n\r\n2,z')
    assert told(found) == [(2, {"a": "1", "b": 'x\n"y" \n'}), (6, {"a": "2", "b": "z"})]
    assert found[1].sha256 == sha256_bytes(b"2,z")
    assert found[0].sha256 == sha256_bytes(b'1,"x\n""y"" \n"')


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_cuts_the_header(tmp_path: Path, delimiter: str) -> None:
    content = f'question{delimiter}answer\n"a,b;c"{delimiter}d\n'.encode()
    assert told(lines(tmp_path, content)) == [(2, {"question": "a,b;c", "answer": "d"})]


def test_a_file_of_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert told(lines(tmp_path, b"text\nIron; it melts.\n")) == [(2, {"text": "Iron; it melts."})]


def test_tabs_alone_cut_a_tsv(tmp_path: Path) -> None:
    found = lines(tmp_path, b"a\tb,c\n1, 2\t3\n", "x.tsv")
    assert told(found) == [(2, {"a": "1, 2", "b,c": "3"})]


def test_cells_of_conversations_may_hold_json(tmp_path: Path) -> None:
    found = lines(tmp_path, b'messages,id\n"[{""role"": ""user""}]",1\n"[{",2\nhello,3\n')
    assert told(found) == [
        (2, {"messages": [{"role": "user"}], "id": "1"}),
        (3, "column 'messages': broken JSON: Expecting ',' delimiter at column 8"),
        (4, {"messages": "hello", "id": "3"}),
    ]  # fmt: skip


def test_a_quote_without_an_end_costs_its_line_only(tmp_path: Path) -> None:
    found = lines(tmp_path, b'a,b\n"1,2\n3,4\n5,6\n')
    assert told(found) == [
        (2, "broken CSV: a quote is opened here and never closed"),
        (3, {"a": "3", "b": "4"}),
        (4, {"a": "5", "b": "6"}),
    ]


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    found = lines(tmp_path, b'a,b\ncaf\xe9,2\n"x\ny\xff",4\n5,6\n')
    assert told(found) == [
        (2, "not UTF-8: byte 0xe9 at 3"),
        (3, "not UTF-8: byte 0xff at 1 of line 4"),
        (5, {"a": "5", "b": "6"}),
    ]


def test_a_record_beyond_the_limit_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "MAX_ROW_BYTES", 1 << 20)
    big = b"x" * (1 << 20)
    found = lines(tmp_path, b"a,b\n" + big + b"yy,1\n" + b'"1\n' + big[:-1] + b'\n",2\n3,4\n')
    assert told(found)[:2] == [
        (2, "longer than 1 MB"),
        (3, "longer than 1 MB, or a quote that is never closed"),
    ]
    assert told(found)[-1] == (6, {"a": "3", "b": "4"})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"a,a\n1,2\n", "the column 'a' more than once"),
        (b'"a"b,c\n1,2\n', "the header cannot be read"),
        (b"caf\xe9,b\n1,2\n", "the header cannot be read"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what) as caught:
        lines(tmp_path, content)
    assert str(caught.value.found).startswith("line 1: ")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"a,b\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        lines(tmp_path, content)
