"""JSON files: a list of objects, an object that holds one such list, or objects in a row.

The file is cut into its elements by brackets and quotes, and each is parsed by itself: so one
broken element costs one row, every row has the line at which it begins, and memory holds one row
at a time. After an element that never ends, reading goes on at the next line that begins as that
one did. JSON lines in a file named .json are read as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from nexa.core.errors import DataError, FormatError
from nexa.core.identity import sha256_bytes
from nexa.core.values import MAX_ROW_BYTES, parse
from nexa.data.loaders.jsonl import read_jsonl
from nexa.data.loaders.opening import BOM, HEAD_BYTES, check_head, empty, mapped
from nexa.data.rows import Line
from nexa.data.schemas import shape_of

Data = bytes | mmap

# A whole string, a bracket, a comma, or a quote whose string does not end on its line: JSON
# writes a line's end inside a string as \n, so such a string is broken for certain.
_TOKEN = re.compile(rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"|[{}\[\],"]')
_SPACE = re.compile(rb"[ \t\r\n]*+")
_NEWLINE = b"\n"
_CLOSERS = {b"{": b"}", b"[": b"]"}


@dataclass
class _Cut:
    """An element's bytes from `begin` to `end`; `problem` says why they are none, seen `at`."""

    begin: int
    end: int
    problem: str = ""
    at: int = 0


def read_json(path: Path, name: str) -> Iterator[Line]:
    """The elements of a file in their order, each with the line at which it begins.

    Raises:
        DataError: no such file, an empty one, or one that is not JSON from the first byte.
        FormatError: an object with several lists of objects.
    """
    data = mapped(path)
    check_head(data[:HEAD_BYTES], path, "JSON")
    at = _skip(data, len(BOM) if data[: len(BOM)] == BOM else 0)
    first = data[at : at + 1]
    if not first:
        raise empty(path)
    if first == b"[":
        cuts = _elements(data, at + 1, after="the list")
    elif _is_lines(data, at):
        yield from read_jsonl(path, name)
        return
    elif first == b"{":
        cuts = _in_object(data, at, path)
    else:
        raise DataError(
            f"{path} is not JSON",
            found=f"it begins with {data[at : at + 20].decode(errors='replace')!r}",
            fix="give a list of objects: [{...}, {...}]",
        )
    rows = 0
    for line in _lines(data, cuts, name):
        rows += 1
        yield line
    if not rows:
        raise empty(path, found="a list without elements")


def _lines(data: Data, cuts: Iterator[_Cut], name: str) -> Iterator[Line]:
    """Parsed elements; of those that begin on one line, the second and later are numbered."""
    number, counted, on_line = 1, 0, 0
    for cut in cuts:
        passed = data[counted : cut.begin].count(b"\n")
        number, counted = number + passed, cut.begin
        on_line = 1 if passed or not on_line else on_line + 1
        raw = data[cut.begin : cut.end]
        row, problem = parse(raw, line=number)
        if cut.problem:
            seen = number + data[cut.begin : cut.at].count(b"\n")
            row, problem = None, f"broken JSON: {cut.problem} (line {seen})"
        element = on_line if on_line > 1 else 0
        yield Line(name, number, sha256_bytes(raw), row, problem, element)


def _in_object(data: Data, at: int, path: Path) -> Iterator[_Cut]:
    """The elements of the one list in an object; without one, the object and those behind it."""
    row, _ = parse(data[at : _end_of(data, at)])
    lists = [] if row and shape_of(row) else _lists(data, at)
    if len(lists) > 1:
        raise FormatError(
            f"{path} is an object with {len(lists)} lists of rows",
            found=", ".join(f"one begins at line {data[:i].count(_NEWLINE) + 1}" for i in lists),
            fix="write each list into a file of its own",
        )
    return _elements(data, lists[0], after="") if lists else _elements(data, at, after="objects")


def _is_lines(data: Data, at: int) -> bool:
    """Whether an object ends on its line and another begins below: JSON lines under another name.

    Where the first line is broken, the first line that begins an object decides.
    """
    first = data.find(b"\n", at)
    if first < 0:
        return False
    if parse(data[at:first])[0] is not None:
        return data[_skip(data, first) : _skip(data, first) + 1] == b"{"
    if data[at : at + 1] == b"{" and _end_of(data, at) <= len(data):
        return False
    begin = data.find(b"\n{", at)
    end = data.find(b"\n", begin + 1)
    return begin >= 0 and parse(data[begin + 1 : end if end > 0 else len(data)])[0] is not None


def _end_of(data: Data, at: int) -> int:
    """Where the value that begins at `at` ends; beyond the data if it never does."""
    closers: list[bytes] = []
    for match in _TOKEN.finditer(data, at):
        token = match.group()
        if token in _CLOSERS:
            closers.append(_CLOSERS[token])
        elif token in (b"}", b"]"):
            if not closers or token != closers.pop():
                break
            if not closers:
                return match.end()
        elif token == b'"':
            break
    return len(data) + 1


def _lists(data: Data, at: int) -> list[int]:
    """Where the lists of objects begin that are values of the object at `at`."""
    found = []
    depth = 0
    for match in _TOKEN.finditer(data, at):
        token = match.group()
        if token in _CLOSERS:
            depth += 1
            begin = match.end()
            inside = _skip(data, begin)
            if depth == 2 and token == b"[" and data[inside : inside + 1] == b"{":
                found.append(begin)
        elif token in (b"}", b"]"):
            depth -= 1
        if not depth or token == b'"':
            break
    return found


def _elements(data: Data, at: int, *, after: str) -> Iterator[_Cut]:
    """The elements from `at` on. `after` names what ends, "" where anything may follow it."""
    while True:
        at = _skip(data, at)
        mark = data[at : at + 1]
        if not mark:
            if after != "objects":
                yield _Cut(len(data), len(data), "the file ends before its list does")
            return
        if mark == b",":
            at += 1
        elif mark == b"]" and after != "objects":
            rest = _skip(data, at + 1)
            if after and rest < len(data):
                yield _Cut(rest, len(data), f"text after the end of {after}")
            return
        else:
            cut = _element(data, at)
            yield cut
            at = cut.end
            if cut.problem and at == len(data):
                return  # the list's end went with it


def _element(data: Data, begin: int) -> _Cut:
    """The element that begins here."""
    closers: list[bytes] = []
    for match in _TOKEN.finditer(data, begin):
        token = match.group()
        if token in _CLOSERS:
            closers.append(_CLOSERS[token])
            if match.start() > begin and len(closers) == 1:
                return _Cut(begin, match.start())  # a bare word before a bracket
        elif not closers and token in (b"}", b"]", b","):
            # A bare word before it; a bracket too many is an element of its own.
            return _Cut(begin, max(match.start(), begin + 1))
        elif token in (b"}", b"]"):
            if token != closers.pop():
                problem = f"{token.decode()} closes what is not open"
                return _resumed(data, begin, problem, match.start())
            if not closers:
                return _Cut(begin, match.end())
        elif token == b'"':
            return _resumed(data, begin, "a text does not end on its line", match.start())
        elif match.end() - begin > MAX_ROW_BYTES:
            cut = _resumed(data, begin, "longer than a row can be, or without an end", begin)
            if cut.end < len(data):
                return cut
    if not closers:
        return _Cut(begin, len(data))
    return _resumed(data, begin, "what begins here never ends", begin)


def _resumed(data: Data, begin: int, problem: str, at: int) -> _Cut:
    """A broken element, up to the next line that begins with as many blanks and a bracket."""
    start = data.rfind(b"\n", 0, begin) + 1
    blanks = data[start:begin] if not data[start:begin].strip(b" \t[") else b""
    found = data.find(b"\n" + blanks.replace(b"[", b"") + b"{", begin)
    return _Cut(begin, found + 1 if found >= 0 else len(data), problem, at)


def _skip(data: Data, at: int) -> int:
    """The first place from `at` on that is no blank."""
    match = _SPACE.match(data, at)
    return match.end() if match else at
