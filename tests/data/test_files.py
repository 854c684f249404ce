"""Equal rows make equal bytes, with the columns that other layers read."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq

from nexa.data.files import lineage, parquet, rejects
from nexa.data.filters.split import Placed
from nexa.data.rows import Reject
from tests.data.build import row

ROWS = [
    Placed(row("q", "ä", 1, domain="d", quality_score=0.5, group="g"), "train", "c"),
    Placed(row("q2", "a2", 2), "train", "c2"),
]


def test_parquet_has_the_columns_that_layers_agreed_on() -> None:
    table = pq.read_table(io.BytesIO(parquet(ROWS)))
    assert table.column_names == [
        *("row_id", "messages", "domain", "source", "group", "quality_score", "cluster", "origin")
    ]
    first, second = table.to_pylist()
    assert first["messages"] == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "ä"},
    ]
    assert (first["domain"], first["group"], first["quality_score"]) == ("d", "g", 0.5)
    assert first["origin"] == "rows.jsonl:1"
    assert second["domain"] is second["source"] is second["quality_score"] is None
    assert second["group"] == second["row_id"]


def test_equal_rows_make_equal_bytes() -> None:
    assert parquet(ROWS) == parquet(list(ROWS))
    assert parquet(ROWS) != parquet(ROWS[::-1])


def test_lineage_and_rejects_are_a_line_a_row() -> None:
    (first, second) = (json.loads(line) for line in lineage(ROWS).splitlines())
    assert first == {
        "row_id": ROWS[0].row.row_id,
        "split": "train",
        "origin": "rows.jsonl:1",
        "sha256": ROWS[0].row.line.sha256,
    }
    assert second["origin"] == "rows.jsonl:2"
    line = ROWS[0].row.line
    assert json.loads(rejects([Reject(line, "why", "what")])) == {
        "file": "rows.jsonl",
        "line": 1,
        "reason": "why",
        "detail": "what",
        "sha256": line.sha256,
    }
    assert rejects([]) == b""
