"""Equal rows make equal bytes, with the columns that other layers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexa.core.identity import sha256_bytes
from nexa.data import files
from nexa.data.files import COLUMNS, RowsWriter, json_lines, lineage, read_lines, split_info


def row(number: int, **labels: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"ä{number}"}]
    name = f"r{number}"
    made = {"row_id": name, "messages": said, "group": name, "cluster": name}
    return made | {"origin": f"rows.jsonl:{number}"} | labels


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=COLUMNS)


def test_parquet_has_the_columns_that_layers_agreed_on(tmp_path: Path) -> None:
    first = row(1, domain="d", quality_score=0.5, group="g")
    with RowsWriter(tmp_path / "x.parquet") as file:
        file.add(batch([first, row(2)]))
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == [
        *("row_id", "messages", "domain", "source", "group", "quality_score", "cluster", "origin")
    ]
    assert table.to_pylist() == [
        {**first, "source": None},
        {**row(2), "domain": None, "source": None, "quality_score": None},
    ]
    assert file.info.rows == 2
    assert file.info.digest == sha256_bytes(b"r1\nr2")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 40))
def test_the_file_is_the_same_however_rows_are_handed_over(
    tmp_path: Path, cuts: list[int], count: int
) -> None:
    rows = batch([row(n, domain="ab"[n % 2]) for n in range(count)])
    at = sorted({0, count, *(cut for cut in cuts if cut < count)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "GROUP_ROWS", 8)
        with RowsWriter(tmp_path / "whole.parquet") as whole:
            whole.add(rows)
        with RowsWriter(tmp_path / "cut.parquet") as cut:
            for begin, end in zip(at, at[1:], strict=False):  # noqa: RUF007
                cut.add(rows.slice(begin, end - begin))
    data = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "cut.parquet").read_bytes() == data
    assert pq.read_table(tmp_path / "cut.parquet").num_rows == count
    groups = pq.ParquetFile(tmp_path / "whole.parquet").metadata
    assert groups.num_row_groups == -(-count // 8)


def test_other_rows_are_other_bytes(tmp_path: Path) -> None:
    for name, rows in (("a", [row(1), row(2)]), ("b", [row(2), row(1)])):
        with RowsWriter(tmp_path / name) as file:
            file.add(batch(rows))
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_file_whose_rows_failed_is_closed(tmp_path: Path) -> None:
    with (
        pytest.raises(TypeError),
        RowsWriter(tmp_path / "x.parquet") as file,
    ):
        file.add(batch([row(1), {"row_id": 1}]))
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 0


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=20))
def test_a_split_is_known_by_its_sorted_ids(ids: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "IDS_AT_ONCE", 3)
        info = split_info(pa.chunked_array([ids[:4], ids[4:]], pa.string()))
    assert info.rows == len(ids)
    assert info.digest == sha256_bytes("\n".join(sorted(ids)).encode())


def test_lineage_is_a_line_a_row_and_tells_what_was_mended() -> None:
    rows = pa.RecordBatch.from_pylist(
        [
            {"row_id": "ä", "origin": "x:1", "sha256": "s", "mended": None},
            {"row_id": 'b"', "origin": "x:2", "sha256": "t", "mended": ["spaces"]},
        ]
    )
    lines = lineage(rows, ["train", "eval"]).decode().splitlines()
    assert lines[0] == '{"row_id": "ä", "split": "train", "origin": "x:1", "sha256": "s"}'
    assert json.loads(lines[1]) == {
        **{"row_id": 'b"', "split": "eval", "origin": "x:2", "sha256": "t"},
        "mended": ["spaces"],
    }


def test_lines_are_read_back_one_by_one(tmp_path: Path) -> None:
    records = [{"a": "x\u2028y"}, {"b": 1}]
    (tmp_path / "x").write_bytes(json_lines(records))
    assert list(read_lines(tmp_path / "x")) == records
    assert json_lines([]) == b""
