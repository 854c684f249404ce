"""Every line comes out, with its data or with what is wrong with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nexa.core import values
from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes
from nexa.data.loaders import loader_for
from nexa.data.loaders.jsonl import read_jsonl
from nexa.data.rows import Line


def lines(tmp_path: Path, content: bytes) -> list[Line]:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    return list(read_jsonl(path, "x.jsonl"))


def test_lines_keep_their_numbers_over_blank_ones(tmp_path: Path) -> None:
    found = lines(tmp_path, b'{"a": 1}\n\n  \n{"a": 2}\r\n{"a": 3}')
    assert [(line.number, line.data) for line in found] == [
        (1, {"a": 1}),
        (4, {"a": 2}),
        (5, {"a": 3}),
    ]
    assert found[1].sha256 == sha256_bytes(b'{"a": 2}')
    assert found[1].origin == "x.jsonl:4"


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, b'\xef\xbb\xbf{"a": 1}\n')
    assert line.data == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"a": 1', "broken JSON: Expecting ',' delimiter at column 8"),
        (b'{"a": "caf\xe9"}', "not UTF-8: byte 0xe9 at 10"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' stands there twice"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b"17", "not an object but a number"),
        (b"null", "not an object but null"),
        (b'"text"', "not an object but a text"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON that cannot be read"),
        (b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}", "JSON that cannot be read"),
    ],
)
def test_a_bad_line_says_what_is_wrong_and_the_next_one_is_read(
    tmp_path: Path, raw: bytes, problem: str
) -> None:
    bad, good = lines(tmp_path, raw + b'\n{"a": 1}\n')
    assert bad.data is None
    assert problem in bad.problem
    assert good.data == {"a": 1}


def test_an_escaped_letter_is_read_as_the_letter(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, b'{"a": "\\u00e9 \\ud83d\\ude42"}')
    assert line.data == {"a": "\u00e9 \U0001f642"}


def test_a_line_beyond_the_limit_is_handed_on_with_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "MAX_ROW_BYTES", 1 << 20)
    huge = b'{"a": "' + b"x" * (3 << 20) + b'"}\n'
    first, second, third = lines(tmp_path, b'{"a": 1}\n' + huge + b'{"a": 2}\n')
    assert (first.number, second.number, third.number) == (1, 2, 3)
    assert second.problem == "longer than 1 MB"
    assert third.data == {"a": 2}


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (json.dumps({"a": 1}).encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\x00{", "UTF-16"),
        (gzip.compress(b'{"a": 1}', mtime=0), "gzip"),
        (b"PAR1....", "Parquet"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"PK\x03\x04...", "zip"),
        (b"GGUF\x00\x01", "a zero byte at 4"),
        (b' [{"a": 1}]', "one JSON list"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_what_it_is(
    tmp_path: Path, head: bytes, what: str
) -> None:
    with pytest.raises(DataError, match="is not JSON lines") as caught:
        lines(tmp_path, head)
    assert what in str(caught.value.found)
    assert caught.value.fix is not None


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        lines(tmp_path, content)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read") as caught:
        list(read_jsonl(tmp_path / "none.jsonl", "none.jsonl"))
    assert caught.value.found == "No such file or directory"


@pytest.mark.parametrize("name", ["a.jsonl", "a.NDJSON", "a.jsonl.gz", "a"])
def test_json_lines_are_what_a_file_is_taken_for(name: str) -> None:
    assert loader_for(Path(name)) is read_jsonl
