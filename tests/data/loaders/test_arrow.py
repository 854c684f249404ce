"""Arrow files and streams give their rows, or say what they are instead."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pytest

from nexa.core.errors import DataError
from nexa.data.loaders import counter_for, loader_for
from nexa.data.loaders.arrow import count_arrow, read_arrow

ROWS = [{"question": f"q{n}", "answer": "a", "turns": [{"role": "user"}]} for n in range(700)]
TABLE = pa.Table.from_pylist(ROWS)


def written(path: Path, *, stream: bool = False, table: pa.Table = TABLE) -> Path:
    kind: Any = pa.ipc.new_stream if stream else pa.ipc.new_file
    with kind(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=300)
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_rows_are_numbered_over_batches(tmp_path: Path, stream: bool) -> None:
    path = written(tmp_path / "x.arrow", stream=stream)
    found = list(read_arrow(path, "x.arrow"))
    assert [line.data for line in found] == ROWS
    assert [line.number for line in found] == list(range(1, 701))
    assert count_arrow(path) == 700


def test_feather_is_arrow_packed_or_not(tmp_path: Path) -> None:
    for name, packing in (("a.feather", "lz4"), ("b.ipc", "uncompressed")):
        pyarrow.feather.write_feather(TABLE, str(tmp_path / name), compression=packing)
        path = tmp_path / name
        assert [line.data for line in loader_for(path)(path, name)] == ROWS
        assert counter_for(path) is count_arrow
    packed = tmp_path / "b.ipc.gz"
    packed.write_bytes(gzip.compress((tmp_path / "b.ipc").read_bytes()))
    assert len(list(loader_for(packed)(packed, "x"))) == 700


def test_values_that_json_has_not_cost_their_row(tmp_path: Path) -> None:
    table = pa.table({"text": [b"bytes", None]})
    found = list(read_arrow(written(tmp_path / "x.arrow", table=table), "x"))
    assert found[0].problem == "column 'text' holds bytes, which is no text"
    assert found[1].data == {"text": None}


def test_what_is_no_arrow_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    for data, problem in (
        (b"", "is empty"),
        (b"{}", "is not Arrow"),
        (b"FEA1 and more", "Feather, version 1"),
        (b"ARROW1\0\0 and no more", "is damaged, or not Arrow"),
        (b"\xff\xff\xff\xff\x10\x00\x00\x00 and no more", "is damaged, or not Arrow"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=problem):
            list(read_arrow(path, "x"))
        with pytest.raises(DataError, match=problem):
            count_arrow(path)
    with pytest.raises(DataError, match="is empty"):
        list(read_arrow(written(path, table=TABLE.slice(0, 0)), "x"))


def test_a_broken_offset_is_refused_before_it_is_followed(tmp_path: Path) -> None:
    path = written(tmp_path / "x.arrow", table=pa.table({"text": ["iron", "gold"]}))
    good = path.read_bytes()
    offsets = b"\x00\x00\x00\x00\x04\x00\x00\x00\x08\x00\x00\x00"
    assert good.count(offsets) == 1
    path.write_bytes(good.replace(offsets, b"\x00\x00\x00\x00\x04\x00\x00\x00\xff\xff\xff\x7f"))
    with pytest.raises(DataError, match="is damaged, or not Arrow"):
        list(read_arrow(path, "x"))
