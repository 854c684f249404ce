"""Sealed datasets as parts: their rows in the order of their lineage, some thousands at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.data.engine.parts import Part
from nexa.data.files import COLUMNS, read_lines

PART_ROWS = 16_384
BATCH_ROWS = 1024
LINEAGE = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("mended", pa.list_(pa.string())),
    ]
)


def unsealed(
    dataset: Artifact[DatasetBody],
    store: Store,
    folder: Path,
    *,
    first: int,
    settled: bool,
    renamed: Mapping[str, str] | None = None,
    part_rows: int = PART_ROWS,
) -> Iterator[Part]:
    """The parts of a dataset, the first of which is number `first`; each is laid out in `folder`.

    `renamed` has new names of its source files. A part has the columns of a dataset and those of
    LINEAGE; the process that reads it is another one.

    Raises:
        IntegrityError: the lineage does not name the rows of the splits in their order.
    """
    splits = {name: _Split(store.path(dataset, f"{name}.parquet")) for name in dataset.body.splits}
    lines = read_lines(store.path(dataset, "lineage.jsonl"))
    number = first
    while some := list(islice(lines, part_rows)):
        path = folder / f"{number:06d}.unsealed"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
            writer.write_table(_table(some, splits, dataset), max_chunksize=BATCH_ROWS)
        yield Part(number, dataset.label, path, sealed=True, settled=settled, renamed=renamed or {})
        number += 1


_SCHEMA = pa.schema([*COLUMNS, *LINEAGE])


class _Split:
    """The rows of one split, taken from its file in their order."""

    def __init__(self, path: Path) -> None:
        self._batches = pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS)
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> list[pa.RecordBatch]:
        """The next rows, or fewer at the end."""
        found = []
        while rows and (batch := self._rest or next(self._batches, None)) is not None:
            found.append(batch.slice(0, rows).cast(COLUMNS))
            self._rest = batch.slice(rows) if batch.num_rows > rows else None
            rows -= found[-1].num_rows
        return found


def _table(
    lines: list[dict[str, Any]], splits: Mapping[str, _Split], dataset: Artifact[DatasetBody]
) -> pa.Table:
    """The rows that some lines of the lineage name, in the lines' order."""
    wanted = {name: [line for line in lines if line["split"] == name] for name in splits}
    taken = [batch for name, mine in wanted.items() for batch in splits[name].take(len(mine))]
    by_split = pa.Table.from_batches(taken, COLUMNS)
    at = {name: sum(map(len, [*wanted.values()][:i])) for i, name in enumerate(wanted)}
    order = []
    for line in lines:
        order.append(at[line["split"]])
        at[line["split"]] += 1
    table = by_split.take(order) if len(by_split) == len(lines) else by_split
    if table.column("row_id").to_pylist() != [line["row_id"] for line in lines]:
        raise IntegrityError(
            f"{dataset.label}: its lineage does not name its rows in their order",
            fix=f"nexa verify {dataset.label}",
        )
    for name, kind in zip(LINEAGE.names, LINEAGE.types, strict=True):
        table = table.append_column(name, pa.array([line.get(name) for line in lines], kind))
    return table.cast(_SCHEMA)
