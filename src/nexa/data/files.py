"""The files of a dataset, as bytes: equal rows make equal bytes, on any day and machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.identity import sha256_bytes
from nexa.core.records import SplitInfo
from nexa.data.filters.split import Placed
from nexa.data.rows import Reject

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
COLUMNS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("messages", pa.list_(TURN), nullable=False),
        pa.field("domain", pa.string()),
        pa.field("source", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("quality_score", pa.float64()),
        pa.field("cluster", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
    ]
)


def parquet(placed: Sequence[Placed]) -> bytes:
    """Rows as Parquet, in their order; the last message is the answer.

    Columns: row_id, messages (role, content), domain, source, group, quality_score, cluster,
    origin (`file:line`).
    """
    table = pa.Table.from_pylist([_record(item) for item in placed], schema=COLUMNS)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    return sink.getvalue()


def lineage(placed: Iterable[Placed]) -> bytes:
    """A line a kept row: which line of which file it was made from."""
    return json_lines(
        {
            "row_id": item.row.row_id,
            "split": item.split,
            "origin": item.row.line.origin,
            "sha256": item.row.line.sha256,
        }
        for item in placed
    )


def rejects(items: Iterable[Reject]) -> bytes:
    """A line a row left out: file, line, reason, what was wrong, and the line's digest."""
    return json_lines(item.to_json() for item in items)


def split_info(placed: Sequence[Placed]) -> SplitInfo:
    """How many rows a split has, and the digest of which."""
    ids = sorted(item.row.row_id for item in placed)
    return SplitInfo(rows=len(ids), digest=sha256_bytes("\n".join(ids).encode()))


def _record(item: Placed) -> dict[str, Any]:
    content = item.row.content
    return {
        "row_id": item.row.row_id,
        "messages": list(content.messages),
        "domain": content.domain,
        "source": content.source,
        "group": item.row.group,
        "quality_score": content.quality_score,
        "cluster": item.cluster,
        "origin": item.row.line.origin,
    }


def json_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records, one a line."""
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
