"""Gzip is read as what it holds, and a broken one is told."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from nexa.core.errors import DataError
from nexa.data.loaders import loader_for
from nexa.data.rows import Line

CONTENTS = {
    "x.jsonl": b'{"text": "a"}\n{"text": "b"}\n',
    "x.json": b'[{"text": "a"}, {"text": "b"}]',
    "x.csv": b"text\na\nb\n",
    "x.md": b"# a\n# b\n",
}


def lines(path: Path) -> list[Line]:
    return list(loader_for(path)(path, "x"))


@pytest.mark.parametrize("name", CONTENTS)
def test_a_packed_file_is_read_as_what_it_holds(tmp_path: Path, name: str) -> None:
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_bytes(CONTENTS[name])
    packed.write_bytes(gzip.compress(CONTENTS[name]))
    assert lines(packed) == lines(plain)
    assert len(lines(packed)) == 2


@pytest.mark.parametrize("name", CONTENTS)
def test_a_broken_packing_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.gz"
    whole = gzip.compress(CONTENTS[name], mtime=0)
    for broken in (b"not gzip at all", whole[:-9], whole[:10] + b"\xff" * 9 + whole[19:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="is broken as gzip"):
            lines(path)
