"""The step `select`: rows of a pool that nobody trained on yet, as candidates."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.errors import DataError, UsageError
from nexa.core.events import emit
from nexa.core.identity import where
from nexa.core.records import Artifact, DatasetBody, Draft, SplitInfo, WeaknessBody
from nexa.core.store import Store
from nexa.feedback.feedback_generators.registry import Selector, selector
from nexa.feedback.items import TRAIN, Item, training_items
from nexa.feedback.slices import weak_members


@dataclass(frozen=True)
class SelectSpec:
    """How many rows, and which."""

    name: str = where()  # the candidates'
    rows: int = 40  # at most
    seed: int = 0
    how: str = "pool"  # pool: of weak slices; random: any, the control; or a plugin


def select(
    spec: SelectSpec,
    *,
    weakness: Artifact[WeaknessBody] | None = None,
    pool: Artifact[DatasetBody],
    exclude: Artifact[DatasetBody] | None = None,
    store: Store,
) -> Draft[DatasetBody]:
    """Take rows out of a pool, a dataset of rows with answers; `exclude` holds what is trained on.

    The draft's files are those of a dataset with the split `train` alone.

    Raises:
        UsageError: a generator that asks a teacher; one that aims and nothing is weak.
        DataError: the pool has no such row that is not in `exclude`.
    """
    chosen_by = _selector(spec, weakness)
    items = training_items(pool, store)
    known = {item.content for item in training_items(exclude, store)} if exclude else set()
    unused = [at for at, item in enumerate(items) if item.content not in known]
    open_ = [items[at] for at in unused]
    weak = {} if weakness is None else weak_members(weakness.body, open_)
    chosen = chosen_by.choose(open_, weak, spec.rows, spec.seed)
    if not chosen:
        raise DataError(
            f"{pool.label} has no row to choose",
            found=f"{len(open_)} of {len(items)} rows were not trained on yet"
            + (f", none of {', '.join(weak)}" if weak else ""),
            fix="more labelled rows, or another generator: teacher, paraphrase",
        )
    if len(chosen) < spec.rows:
        text = f"{len(chosen)} of {spec.rows} rows are chosen: {pool.label} has no more"
        emit("note", text=text)
    return _draft(spec.name, pool, store, sorted(unused[at] for at in chosen), items)


def _selector(spec: SelectSpec, weakness: Artifact[WeaknessBody] | None) -> Selector:
    """Raises: UsageError: see `select`."""
    found = selector(spec.how)
    if found is None:
        raise UsageError(f"{spec.how} asks a teacher: its step is propose, not select")
    if spec.rows < 1:
        raise UsageError("no rows are asked for", found=str(spec.rows))
    if found.aims and (weakness is None or not any(one.weak for one in weakness.body.slices)):
        raise UsageError(
            f"{spec.how} takes rows of weak slices, and none is known",
            found="no weakness" if weakness is None else f"{weakness.label} has no weak slice",
            fix="how: random takes any rows",
        )
    return found


def _draft(
    name: str, pool: Artifact[DatasetBody], store: Store, places: list[int], items: Sequence[Item]
) -> Draft[DatasetBody]:
    """Those rows of the pool's split `train`, in its order, with their lineage."""
    table = pq.read_table(store.path(pool, f"{TRAIN}.parquet")).take(pa.array(places))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    with store.path(pool, "lineage.jsonl").open("rb") as file:
        lines = [line for line in file if json.loads(line)["split"] == TRAIN]
    chosen = [items[at] for at in places]
    ids = "\n".join(sorted(item.id for item in chosen))
    digest = hashlib.sha256(ids.encode()).hexdigest()
    body = pool.body.model_copy(
        update={
            "dataset_id": name,
            "splits": {TRAIN: SplitInfo(rows=len(chosen), digest=digest)},
            "rows_read": len(chosen),
            "dropped": {},
            "mended": None,
            "domains": dict(sorted(Counter(i.domain for i in chosen if i.domain).items())),
            "length_quantiles": {},  # of the pool's, not of these
            "content_sha256": None,
        }
    )
    files = {
        f"{TRAIN}.parquet": sink.getvalue(),
        "lineage.jsonl": b"".join(lines[at] for at in places),
        "rejects.jsonl": b"",
    }
    return Draft("dataset", name, body, files)
