"""JSON lines: one object a line, UTF-8. Blank lines are no rows.

A line that is not what it should be is handed on with its problem: broken JSON, bytes that are
not UTF-8, a value that JSON has not (NaN), a key written twice (one of the two would be lost), a
line of more than 16 MB. A file that is none of this from the first byte is a `DataError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from nexa.core.errors import DataError
from nexa.core.identity import sha256_bytes
from nexa.data.rows import Line

MAX_LINE_BYTES = 16 << 20  # a row of four million tokens: nothing that can be trained on
HEAD_BYTES = 4096

# How other things begin; each with what to do about it.
_SIGNATURES = (
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {name} > utf8.jsonl"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {name} > utf8.jsonl"),
    (b"\x1f\x8b", "gzip", "gunzip {name}"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd {name}"),
    (b"PK\x03\x04", "a zip archive", "unzip {name}"),
    (b"PAR1", "Parquet", "write it as JSON lines: one object a row"),
)
_BOM = b"\xef\xbb\xbf"


class _Refused(ValueError):
    """A value that the JSON parser would take and a row must not have."""


def read_jsonl(path: Path, name: str) -> Iterator[Line]:
    """The lines of a file in their order, each with its number from 1.

    Raises:
        DataError: no such file, an empty one, a binary one, or one JSON array.
    """
    rows = 0
    try:
        with path.open("rb") as file:
            check_head(file.read(HEAD_BYTES), path)
            file.seek(0)
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                whole = raw
                while len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE_BYTES + 1)  # the rest of it is passed over
                line = whole.removeprefix(_BOM) if number == 1 else whole
                if line.strip():
                    rows += 1
                    yield _line(line.strip(b"\r\n"), name, number)
    except OSError as error:
        raise DataError(f"cannot read {path}", found=error.strerror or str(error)) from error
    if not rows:
        raise DataError(f"{path} is empty", fix="give a file with one JSON object a line")


def check_head(head: bytes, path: Path) -> None:
    """Refuse a file that is not JSON lines by its first bytes.

    Raises:
        DataError: says what it is instead, and how to turn it into JSON lines.
    """
    for signature, what, fix in _SIGNATURES:
        if head.startswith(signature):
            raise DataError(f"{path} is not JSON lines", found=what, fix=fix.format(name=path.name))
    if b"\0" in head:
        raise DataError(
            f"{path} is not JSON lines",
            found=f"a binary file: a zero byte at {head.index(0)}",
            fix="give a text file with one JSON object a line",
        )
    if head.removeprefix(_BOM).lstrip().startswith(b"["):
        raise DataError(
            f"{path} is not JSON lines",
            found="one JSON array over the whole file",
            fix=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )


def _line(raw: bytes, name: str, number: int) -> Line:
    digest = sha256_bytes(raw)
    try:
        if len(raw) > MAX_LINE_BYTES:
            raise _Refused(f"longer than {MAX_LINE_BYTES >> 20} MB")
        data = _DECODER.decode(raw.decode("utf-8"))
        _check_surrogates(raw, data)
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        return Line(name, number, digest, None, f"not UTF-8: byte 0x{byte:02x} at {error.start}")
    except _Refused as error:
        return Line(name, number, digest, None, str(error))
    except json.JSONDecodeError as error:
        problem = f"broken JSON: {error.msg} at column {error.colno}"
        return Line(name, number, digest, None, problem)
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        return Line(name, number, digest, None, f"JSON that cannot be read: {error}")
    if not isinstance(data, dict):
        return Line(name, number, digest, None, f"not an object but {_kind(data)}")
    return Line(name, number, digest, data)


def _check_surrogates(raw: bytes, data: Any) -> None:
    """Half a surrogate pair can only come from an escape, and no file can hold it again."""
    if b"\\u" in raw and any(
        "\ud800" <= c <= "\udfff" for c in json.dumps(data, ensure_ascii=False)
    ):
        raise _Refused("half a surrogate pair (\\ud800 to \\udfff): no text that can be written")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"key {twice!r} stands there twice")
    return data


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is no JSON number")


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "true or false",
    }
    return names.get(type(value), "null")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
