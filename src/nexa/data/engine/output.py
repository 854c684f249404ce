"""The files of a dataset, written as the stage files are read: one pass, a batch in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nexa.core.errors import IntegrityError
from nexa.core.events import progress
from nexa.core.near.corpus import Memberships
from nexa.core.records import DatasetBody, SplitInfo
from nexa.data.content import content_sha256
from nexa.data.engine.rejected import ByFilter, InOrder
from nexa.data.engine.sieve import Sieve
from nexa.data.engine.stage import read_rows
from nexa.data.files import COLUMNS, RowsWriter, lineage
from nexa.data.filters.split import SPLITS, Sides


@dataclass
class Written:
    """What the files hold."""

    splits: dict[str, SplitInfo] = field(default_factory=dict)
    domains: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    """Reason -> rows that are kept in another form than their source has."""


def write_files(
    folder: Path,
    sieve: Sieve,
    sides: Sides,
    alike: Memberships,
    splits: Sequence[str],
    rejects: InOrder | ByFilter,
) -> Written:
    """Write `<split>.parquet`, `lineage.jsonl` and what `rejects` writes.

    Raises:
        IntegrityError: rows read are not rows kept and rows left out.
    """
    written = Written()
    clusters = _Clusters(alike, sieve.settled)
    staged = sieve.staged
    with ExitStack() as open_:
        paths = {name: folder / f"{name}.parquet" for name in splits}
        files = {name: open_.enter_context(RowsWriter(path)) for name, path in paths.items()}
        lines = open_.enter_context((folder / "lineage.jsonl").open("wb"))
        bar = open_.enter_context(progress("writing", len(staged), "rows"))
        open_.enter_context(rejects)
        begin = 0
        for done in staged.done:
            rejects.begin(done)
            for batch in read_rows(staged.folder, done.part.number):
                batch = clusters.named(batch, begin)
                of = sides[begin : begin + batch.num_rows]
                for name, file in files.items():
                    file.add(batch.filter(pa.array(of == SPLITS.index(name))))
                kept = batch.filter(pa.array(of >= 0))
                lines.write(lineage(kept, [SPLITS[side] for side in of[of >= 0]]))
                _count(kept, written)
                rejects.add(batch, begin)
                begin += batch.num_rows
                bar.advance(batch.num_rows)
            rejects.end()
        written.splits = {name: file.info for name, file in files.items()}
    _check_sum(sieve, written)
    return written


def sealed_form(body: DatasetBody, folder: Path) -> DatasetBody:
    """The body with the digest of what the files in `folder` hold, wherever the rows stood."""
    splits = {name: folder / f"{name}.parquet" for name in body.splits}
    facts = body.model_dump(include={"dropped", "max_length", "template_sha256"})
    return body.model_copy(update={"content_sha256": content_sha256(splits, facts)})


class _Clusters:
    """The names of clusters: each that of its first row, or the one that it has had before.

    The first row of a cluster comes before all others: its name is kept until they come.
    """

    def __init__(self, alike: Memberships, settled: int) -> None:
        counts = np.diff(alike.offsets)
        rows = np.flatnonzero(counts)
        self._first = np.arange(len(counts))
        self._first[rows] = alike.heads[alike.offsets[rows]]
        self._followed = np.zeros(len(counts), dtype=bool)
        self._followed[self._first[self._first != np.arange(len(counts))]] = True
        self._settled = settled
        self._names: dict[int, str] = {}

    def named(self, batch: pa.RecordBatch, begin: int) -> pa.RecordBatch:
        """The batch with its clusters' names."""
        at = slice(begin, begin + batch.num_rows)
        rows = np.arange(at.start, at.stop)
        names = batch.column("cluster")
        for row in rows[self._followed[at]].tolist():
            self._names[row] = names[row - begin].as_py()
        follows = (self._first[at] != rows) & (rows >= self._settled)
        if not follows.any():
            return batch
        heads = self._first[at][follows].tolist()
        found = pa.array([self._names[head] for head in heads], pa.string())
        names = pc.replace_with_mask(names, pa.array(follows), found)
        place = COLUMNS.get_field_index("cluster")
        return batch.set_column(place, batch.schema.field(place), names)


def _count(kept: pa.RecordBatch, written: Written) -> None:
    for name, counter in (
        (kept.column("domain"), written.domains),
        (kept.column("mended").flatten(), written.mended),
    ):
        for item in pc.value_counts(name).to_pylist():
            if item["values"]:
                counter[item["values"]] += item["counts"]


def _check_sum(sieve: Sieve, written: Written) -> None:
    kept = sum(info.rows for info in written.splits.values())
    dropped = sum(sieve.counts().values())
    if sieve.staged.read != kept + dropped:
        raise IntegrityError(
            "rows were lost in preparing them, or counted twice",
            found=f"{sieve.staged.read:,} read, {kept:,} kept and {dropped:,} left out",
        )
