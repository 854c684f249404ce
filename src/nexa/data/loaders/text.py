"""Plain text and Markdown: pieces of whole paragraphs, each a row `{"text": ...}`.

A piece ends at the first blank line after PIECE characters, or at the end of a line after twice
as many; in Markdown a heading begins a new one. So a piece fits a model's context, and no line
is ever cut. Its number is its first line's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nexa.core import values
from nexa.core.identity import sha256_bytes
from nexa.data.loaders.opening import (
    HEAD_BYTES,
    TextLine,
    check_head,
    empty,
    reading,
    text_lines,
)
from nexa.data.rows import Line

PIECE = 1500  # characters: some 400 tokens of English, inside the smallest models' context
_HEADING = re.compile(rb"#{1,6} \S")
_FENCE = re.compile(rb"\s{0,3}(```|~~~)")


def read_text(path: Path, name: str) -> Iterator[Line]:
    """The pieces of a text file.

    Raises:
        DataError: no such file, an empty one, or a binary one.
    """
    yield from _read(path, name, headings=False)


def read_markdown(path: Path, name: str) -> Iterator[Line]:
    """As `read_text`; a heading that is not inside a block of code begins a new piece."""
    yield from _read(path, name, headings=True)


def _read(path: Path, name: str, *, headings: bool) -> Iterator[Line]:
    rows = 0
    with reading(path) as file:
        check_head(file.read(HEAD_BYTES), path, "text")
        file.seek(0)
        for piece in pieces(text_lines(file), headings=headings):
            rows += 1
            yield _line(piece, name)
    if not rows:
        raise empty(path)


def pieces(lines: Iterator[TextLine], *, headings: bool = False) -> Iterator[list[TextLine]]:
    """The lines of each piece in their order; no piece begins with a blank line."""
    piece: list[TextLine] = []
    size, in_code = 0, False
    for line in lines:
        blank = not line.raw.strip()
        heading = headings and not in_code and _HEADING.match(line.raw) is not None
        full = size >= 2 * PIECE or (blank and size >= PIECE)
        if piece and (full or heading):
            yield piece
            piece, size = [], 0
        in_code ^= _FENCE.match(line.raw) is not None
        if piece or not blank:
            piece.append(line)
            size += len(line.raw) + 1
    if piece:
        yield piece


def _line(piece: list[TextLine], name: str) -> Line:
    while not piece[-1].raw.strip():
        piece.pop()
    raw = b"\n".join(line.raw for line in piece)
    digest = sha256_bytes(raw)
    first = piece[0].number
    for line in piece:
        if line.is_too_long:
            problem = f"line {line.number} is longer than {values.MAX_ROW_BYTES >> 20} MB"
            return Line(name, first, digest, None, problem)
        try:
            line.raw.decode("utf-8")
        except UnicodeDecodeError as error:
            problem = f"{values.not_utf8(line.raw, error.start)} of line {line.number}"
            return Line(name, first, digest, None, problem)
    return Line(name, first, digest, {"text": raw.decode("utf-8")})
