"""Rows and datasets that tests train on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nexa.core.events import Event
from nexa.core.records import Artifact, DatasetBody, Draft, SplitInfo
from nexa.core.store import Store
from nexa.train.batches import TokenRow


def random_rows(count: int, *, seed: int = 0, longest: int = 40) -> list[TokenRow]:
    """Rows of unlike lengths; the last third of each bears loss."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        length = rng.randint(6, longest)
        ids = [rng.randint(3, 299) for _ in range(length)]
        rows.append(TokenRow(f"row-{i}", ids, [t >= length * 2 // 3 for t in range(length)]))
    return rows


def conversation(i: int, answer: str | None = None) -> list[dict[str, str]]:
    """A question with its answer."""
    return [
        {"role": "user", "content": f"The density of element {i}?"},
        {"role": "assistant", "content": answer or f'{{"density": {i}.5}}'},
    ]


def dataset(
    store: Store,
    folder: Path,
    train: Iterable[list[dict[str, str]]],
    held_out: Iterable[list[dict[str, str]]] = (),
    *,
    max_length: int = 0,
) -> Artifact[DatasetBody]:
    """A sealed dataset with the columns that training reads."""
    splits = {"train": list(train), "eval": list(held_out)}
    files: dict[str, bytes | Path] = {}
    for split, rows in splits.items():
        if rows or split == "train":
            table = pa.table(
                {"row_id": [f"{split}-{i}" for i in range(len(rows))], "messages": rows},
                schema=pa.schema(
                    {
                        "row_id": pa.string(),
                        "messages": pa.list_(
                            pa.struct({"role": pa.string(), "content": pa.string()})
                        ),
                    }
                ),
            )
            path = folder / f"{split}.parquet"
            pq.write_table(table, path)
            files[path.name] = path
    body = DatasetBody(
        dataset_id="sample",
        format="messages",
        sources={},
        splits={s: SplitInfo(rows=len(rows), digest="0" * 64) for s, rows in splits.items()},
        rows_read=sum(map(len, splits.values())),
        dropped={},
        max_length=max_length,
    )
    draft = Draft("dataset", "sample", body, files)
    return store.seal(draft, step={"name": "prepare"}, fingerprint="0" * 64, inputs={})


def notes(events: Iterable[Event]) -> list[str]:
    """The texts of the notes."""
    return [event["text"] for event in events if event["kind"] == "note"]
