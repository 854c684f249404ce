"""Two datasets have one digest when their rows are the same, wherever those stood."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.data.content import content_sha256

ROWS = [
    {"row_id": "a", "messages": [{"role": "user", "content": "x"}], "origin": "one.jsonl:1"},
    {"row_id": "b", "messages": [{"role": "user", "content": "y"}], "origin": "one.jsonl:2"},
]
FACTS = {"max_length": 64}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def test_where_rows_stood_changes_nothing(tmp_path: Path) -> None:
    moved = [{**row, "origin": f"other.jsonl:{n + 7}"} for n, row in enumerate(ROWS)]
    (tmp_path / "x.parquet").write_bytes(parquet(moved))
    once = content_sha256({"train": parquet(ROWS)}, FACTS)
    assert content_sha256({"train": tmp_path / "x.parquet"}, FACTS) == once


@pytest.mark.parametrize(
    ("splits", "facts"),
    [
        ({"train": ROWS[:1]}, FACTS),
        ({"train": ROWS[::-1]}, FACTS),
        ({"eval": ROWS}, FACTS),
        ({"train": [ROWS[0], {**ROWS[1], "row_id": "c"}]}, FACTS),
        ({"train": ROWS}, {"max_length": 128}),
    ],
    ids=["fewer", "order", "split", "id", "facts"],
)
def test_other_rows_or_facts_are_another_dataset(
    splits: dict[str, list[dict[str, Any]]], facts: dict[str, int]
) -> None:
    once = content_sha256({"train": parquet(ROWS)}, FACTS)
    assert content_sha256({name: parquet(rows) for name, rows in splits.items()}, facts) != once
