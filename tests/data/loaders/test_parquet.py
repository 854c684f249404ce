"""Parquet rows come out as JSON has them, or with the column that cannot."""

from __future__ import annotations

import datetime
import decimal
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import DataError
from nexa.data.loaders import columns
from nexa.data.loaders.parquet import count_parquet, read_parquet


def write(tmp_path: Path, table: pa.Table, **options: Any) -> Path:
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, **options)
    return path


def test_rows_are_numbered_over_row_groups(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"question": f"q{i}", "answer": "a"} for i in range(2500)])
    path = write(tmp_path, table, row_group_size=1000)
    found = list(read_parquet(path, "x.parquet"))
    assert [line.number for line in found] == list(range(1, 2501))
    assert found[2400].data == {"question": "q2400", "answer": "a"}
    assert count_parquet(path) == 2500
    assert len({line.sha256 for line in found}) == 2500
    packed = tmp_path / "x.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_parquet(packed, "x.parquet")) == found
    assert count_parquet(packed) == 2500


def test_values_become_what_json_has(tmp_path: Path) -> None:
    row = {
        "messages": [{"role": "user", "content": "q"}],
        "when": datetime.datetime(2026, 1, 2, 3, 4),
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "none": None,
        "yes": True,
    }
    (line,) = read_parquet(write(tmp_path, pa.Table.from_pylist([row])), "x.parquet")
    assert line.data == {
        **row,
        "when": "2026-01-02T03:04:00",
        "day": "2026-01-02",
        "price": "1.50",
    }


def test_a_value_that_is_no_text_names_its_column(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array([b"\xff", None, None]),
            "b": pa.array([1.0, float("inf"), 2.0]),
        }
    )
    found = list(read_parquet(write(tmp_path, table), "x.parquet"))
    assert [line.problem or line.data for line in found] == [
        "column 'a' holds bytes, which is no text",
        "column 'b': inf is no JSON number",
        {"a": None, "b": 2.0},
    ]


def test_a_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xe4", b"fine"]).view(pa.string())
    found = list(read_parquet(write(tmp_path, pa.table({"text": texts})), "x.parquet"))
    assert [line.data for line in found] == [{"text": "good"}, None, {"text": "fine"}]
    assert found[1].problem.startswith("a value that cannot be read: 'utf-8' codec")


def test_deep_and_long_rows_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep: Any = 1
    for _ in range(70):
        deep = {"x": deep}
    monkeypatch.setattr(columns, "MAX_ROW_BYTES", 1 << 20)
    table = pa.table({"a": [deep, None], "b": [None, "x" * (1 << 20)]})
    found = list(read_parquet(write(tmp_path, table), "x.parquet"))
    assert [line.problem for line in found] == [
        "column 'a': lists and objects lie in each other too deep",
        "longer than 1 MB",
    ]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path, pa.table({"a": ["x" * 50] * 20}), compression="none", use_dictionary=False
    )
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="is damaged, or not Parquet"):
        list(read_parquet(path, "x.parquet"))
    # The footer is whole, a page is not: its length was written over.
    path.write_bytes(whole[:4] + b"\xff" * 20 + whole[24:])
    with pytest.raises(DataError, match="is damaged") as caught:
        list(read_parquet(path, "x.parquet"))
    assert str(caught.value.found).startswith("after row 0: ")


@pytest.mark.parametrize(("content", "what"), [(b"", "is empty"), (b"a,b\n1,2", "is not Parquet")])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        list(read_parquet(path, "x.parquet"))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"text": pa.array([], pa.string())}))
    with pytest.raises(DataError, match="is empty") as caught:
        list(read_parquet(path, "x.parquet"))
    assert caught.value.found == "1 columns and no rows"
