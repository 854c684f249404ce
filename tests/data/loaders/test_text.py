"""Text files are cut between lines into pieces that a model's context holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core import values
from nexa.core.errors import DataError
from nexa.data.loaders.text import PIECE, read_markdown, read_text
from nexa.data.rows import Line


def lines(tmp_path: Path, content: bytes, name: str = "x.txt") -> list[Line]:
    path = tmp_path / name
    path.write_bytes(content)
    return list((read_markdown if name.endswith("md") else read_text)(path, name))


def test_short_paragraphs_are_one_piece_as_they_stand(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, b"\xef\xbb\xbf\n\nOne.\r\nTwo.\n\n  Three.\n\n")
    assert line.number == 3
    assert line.data == {"text": "One.\nTwo.\n\n  Three."}


def test_a_piece_ends_between_paragraphs(tmp_path: Path) -> None:
    paragraph = b"word " * (PIECE // 10) + b"\n"
    found = lines(tmp_path, (paragraph + b"\n") * 7)
    assert [line.number for line in found] == [1, 5, 9, 13]
    assert all(PIECE / 2 - 2 <= len(line.data["text"]) < 2 * PIECE for line in found if line.data)


def test_lines_without_a_blank_between_are_cut_between_lines(tmp_path: Path) -> None:
    found = lines(tmp_path, b"a line of some words\n" * 500)
    assert len(found) == 4
    assert [line.number for line in found] == [1, 144, 287, 430]
    texts = [line.data["text"] for line in found if line.data]
    assert "\n".join(texts) == "\n".join(["a line of some words"] * 500)


def test_a_heading_begins_a_piece_of_markdown(tmp_path: Path) -> None:
    content = b"intro\n# One\ntext\n```\n# no heading\n```\n## Two\n#tag\n"
    assert [line.number for line in lines(tmp_path, content, "x.md")] == [1, 2, 7]
    assert len(lines(tmp_path, content)) == 1


def test_a_piece_that_is_not_utf8_names_line_and_byte(tmp_path: Path) -> None:
    (line, good) = lines(tmp_path, b"# a\ncaf\xe9\n# b\n", "x.md")
    assert (line.number, line.problem) == (1, "not UTF-8: byte 0xe9 at 3 of line 2")
    assert good.data == {"text": "# b"}


def test_a_line_beyond_the_limit_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "MAX_ROW_BYTES", 1 << 20)
    found = lines(tmp_path, b"x" * (3 << 20) + b"\nshort\n")
    assert [(line.number, line.problem) for line in found] == [
        (1, "line 1 is longer than 1 MB"),
        (2, ""),
    ]


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        lines(tmp_path, content)
