"""The files of a dataset: equal rows make equal bytes, on any day, machine and number of cores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring as _text
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa.core.records import SplitInfo

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

# Rows of a group lie in memory together, here and wherever the file is read again.
GROUP_ROWS = 16_384
# Columns that repeat themselves; a dictionary of the others would be as long as they are.
REPEATED = ("messages.list.element.role", "domain", "source")
IDS_AT_ONCE = 65_536


class RowsWriter:
    """A Parquet file of rows in their order; a context manager.

    Columns: row_id, messages (role, content; the last one is the answer), domain, source, group,
    quality_score, cluster, origin (`file:line`). The file is the same however the rows are handed
    over: a group has GROUP_ROWS rows, but for the last one.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetWriter(
            path, COLUMNS, compression="zstd", version="2.6", use_dictionary=list(REPEATED)
        )
        self._waiting: list[pa.RecordBatch] = []
        self._count = 0
        self._ids: list[pa.Array] = []

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write(self._count)
        self._file.close()

    def add(self, rows: pa.RecordBatch) -> None:
        """Append rows that have all columns of COLUMNS."""
        self._waiting.append(rows.select(COLUMNS.names).cast(COLUMNS))
        self._ids.append(rows.column("row_id"))
        self._count += rows.num_rows
        if self._count >= GROUP_ROWS:
            self._write(self._count - self._count % GROUP_ROWS)

    @property
    def info(self) -> SplitInfo:
        """How many rows it has, and the digest of which."""
        return split_info(pa.chunked_array(self._ids, pa.string()))

    def _write(self, rows: int) -> None:
        table = pa.Table.from_batches(self._waiting, COLUMNS)
        for begin in range(0, rows, GROUP_ROWS):
            # In one piece: pages end where the pieces of a column do.
            group = table.slice(begin, min(GROUP_ROWS, rows - begin)).combine_chunks()
            self._file.write_table(group, row_group_size=GROUP_ROWS)
        self._waiting = table.slice(rows).to_batches()
        self._count -= rows


def split_info(ids: pa.ChunkedArray) -> SplitInfo:
    """How many rows a split has, and the digest over their sorted ids, a line feed between two."""
    ordered = ids.take(pc.sort_indices(ids))
    digest = hashlib.sha256()
    for begin in range(0, len(ordered), IDS_AT_ONCE):
        some = ordered.slice(begin, IDS_AT_ONCE).to_pylist()
        digest.update((("\n" if begin else "") + "\n".join(some)).encode())
    return SplitInfo(rows=len(ordered), digest=digest.hexdigest())


def lineage(batch: pa.RecordBatch, splits: Sequence[str]) -> bytes:
    """A line a row: its id and split, which line of which file it was made from.

    Where its content is not the source's, the filters' reasons are told, too.
    """
    names = ("row_id", "origin", "sha256", "mended")
    columns = zip(*(batch.column(name).to_pylist() for name in names), splits, strict=True)
    # Put together by hand: the most frequent line of all, and the slowest of what is written.
    return "".join(
        f'{{"row_id": {_text(row_id)}, "split": "{split}", "origin": {_text(origin)}, '
        f'"sha256": "{sha256}"'
        + (f', "mended": {json.dumps(mended, ensure_ascii=False)}' if mended else "")
        + "}\n"
        for row_id, origin, sha256, mended, split in columns
    ).encode()


def json_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records, one a line."""
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of such a file, one in memory at a time."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)
