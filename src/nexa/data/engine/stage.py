"""The files of a part: its rows as a dataset has them, and the numbers they are compared by.

000012.arrow      rows: the columns of a dataset, and what is known of them (`STAGE`)
000012.facts      for each of them a record of numbers (`FACTS`)
000012.shingles   for each of them what its text is compared by (`core.near.ShingleWriter`)
000012.rejects    a line of JSON for each row that was left out as it was read
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nexa.core.near.corpus import ShingleWriter
from nexa.data.files import COLUMNS, TURN
from nexa.data.filters.split import OUT, SPLITS, draw
from nexa.data.keys import keys_of
from nexa.data.rows import Row

STAGE = pa.schema(
    [
        *COLUMNS,
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("mended", pa.list_(pa.string())),  # why its content is not the source's
        pa.field("refused", pa.string()),  # why the chat template does not take it
    ]
)
FACTS = np.dtype(
    [
        ("row", "<u8", 2),  # equal for rows that are the same but for blanks
        ("id", "<u8", 2),
        ("group", "<u8", 2),
        ("draw", "<f8"),
        ("line", "<i8"),
        ("element", "<i4"),
        ("length", "<i4"),  # tokens; -1 where the template refuses it
        ("side", "<i1"),  # of a row that was placed before
        ("file", "<i4"),  # index of the part's files
    ]
)
Facts = NDArray[Any]  # [N] of FACTS
NO_LENGTH = -1


@dataclass(slots=True)
class Measured:
    """A row with what is found out about it on its way."""

    row: Row
    length: int = NO_LENGTH
    refused: str | None = None
    mended: tuple[str, ...] = ()
    placed: tuple[str, str] | None = None
    """The split and the cluster that it has already."""
    file: int = 0


def path_of(folder: Path, part: int, kind: str) -> Path:
    """One of a part's files."""
    return folder / f"{part:06d}.{kind}"


class StageWriter:
    """Writes a part's rows and the numbers beside them; a context manager."""

    def __init__(self, folder: Path, part: int) -> None:
        self._rows = pa.OSFile(str(path_of(folder, part, "arrow")), "wb")
        self._writer = pa.ipc.new_file(self._rows, STAGE)
        self._facts = path_of(folder, part, "facts").open("wb")
        self._shingles = ShingleWriter(path_of(folder, part, "shingles"))

    def __enter__(self) -> StageWriter:
        self._shingles.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shingles.__exit__(kind, error, traceback)
        self._writer.close()
        self._rows.close()
        self._facts.close()

    def add(self, batch: Sequence[Measured]) -> None:
        """Append rows in their order."""
        if batch:
            self._writer.write_batch(_columns(batch))
            self._facts.write(_facts(batch).tobytes())
            self._shingles.add([item.row.example for item in batch])


def read_rows(folder: Path, part: int) -> Iterator[pa.RecordBatch]:
    """A part's rows, a batch in memory at a time."""
    # Not mapped: pages of a mapped file would count as this process's memory.
    with pa.OSFile(str(path_of(folder, part, "arrow"))) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def read_facts(folder: Path, part: int) -> Facts:
    """The numbers of a part's rows."""
    return np.fromfile(path_of(folder, part, "facts"), dtype=FACTS)


def _columns(batch: Sequence[Measured]) -> pa.RecordBatch:
    rows = [item.row for item in batch]
    contents = [row.content for row in rows]
    turns = [turn for content in contents for turn in content.messages]
    ends = np.cumsum([0, *(len(content.messages) for content in contents)])
    said = pa.StructArray.from_arrays(
        [
            pa.array([turn["role"] for turn in turns], pa.string()),
            pa.array([turn["content"] for turn in turns], pa.string()),
        ],
        fields=list(TURN),
    )
    ids = pa.array([row.row_id for row in rows], pa.string())
    clusters = [item.placed[1] if item.placed else None for item in batch]
    return pa.RecordBatch.from_arrays(
        [
            ids,
            pa.ListArray.from_arrays(pa.array(ends, pa.int32()), said),
            pa.array([content.domain for content in contents], pa.string()),
            pa.array([content.source for content in contents], pa.string()),
            pa.array([row.group for row in rows], pa.string()),
            pa.array([content.quality_score for content in contents], pa.float64()),
            pa.array(clusters, pa.string()).fill_null("") if any(clusters) else ids,
            pa.array([row.line.origin for row in rows], pa.string()),
            pa.array([row.line.sha256 for row in rows], pa.string()),
            pa.array([item.mended or None for item in batch], pa.list_(pa.string())),
            pa.array([item.refused for item in batch], pa.string()),
        ],
        schema=STAGE,
    )


def _facts(batch: Sequence[Measured]) -> Facts:
    rows = [item.row for item in batch]
    facts = np.zeros(len(rows), dtype=FACTS)
    facts["row"] = keys_of([row.duplicate_key for row in rows])
    facts["id"] = keys_of([row.row_id for row in rows])
    facts["group"] = keys_of([row.group for row in rows])
    facts["draw"] = [draw(row) for row in rows]
    facts["line"] = [row.line.number for row in rows]
    facts["element"] = [row.line.element for row in rows]
    facts["length"] = [item.length for item in batch]
    facts["side"] = [SPLITS.index(item.placed[0]) if item.placed else OUT for item in batch]
    facts["file"] = [item.file for item in batch]
    return facts
