"""A sealed dataset, looked into: its rows, where one came from, in what two versions differ.

Rows are read a batch at a time, and of two versions that are compared only a few numbers a row are
in memory, so a dataset may be larger than it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nexa.core.errors import DataError, nearest
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store

BATCH_ROWS = 4096
SAMPLES = 5  # rows of a kind that a comparison names
MOST_NEAR = 2000  # row ids that a mistyped one is compared with
Dataset = Artifact[DatasetBody]


@dataclass(frozen=True)
class Shown:
    """A row of a dataset as it is sealed, and which split it is in."""

    split: str
    row: Mapping[str, Any]

    @property
    def row_id(self) -> str:
        """Its id."""
        return str(self.row["row_id"])


@dataclass(frozen=True)
class Change:
    """Rows that one version has otherwise than another: how many, and the first of them."""

    count: int
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """In what a dataset differs from another."""

    added: Change
    removed: Change
    changed: Change
    """The same id with another content."""
    moved: Change
    """The same id in another split."""
    same: int
    domains: Mapping[str, tuple[int, int]]
    """Domain -> rows in the one and in the other, where they differ."""
    dropped: Mapping[str, tuple[int, int]]
    """Reason -> rows left out of the one and of the other, where they differ."""


@dataclass(frozen=True)
class Source:
    """Where a row came from: the line of a file, by its digest."""

    origin: str
    sha256: str
    file_sha256: str | None
    """Of the file, as it was read; None where the record does not name it."""
    split: str


def rows(
    dataset: Dataset,
    store: Store,
    *,
    split: str | None = None,
    domain: str | None = None,
    text: str | None = None,
) -> Iterator[Shown]:
    """The rows of a dataset in their order: of one split or domain, or with a text in a message.

    Raises:
        DataError: there is no such split or domain.
    """
    body = dataset.body
    _require(split, body.splits, "split", dataset)
    _require(domain, body.domains, "domain", dataset)
    wanted = None if text is None else text.casefold()
    for name in body.splits if split is None else [split]:
        for batch in _batches(dataset, name, store):
            for row in batch.to_pylist():
                if domain is not None and row["domain"] != domain:
                    continue
                if wanted is None or any(
                    wanted in m["content"].casefold() for m in row["messages"]
                ):
                    yield Shown(name, row)


def row(dataset: Dataset, row_id: str, store: Store) -> Shown:
    """The row with an id.

    Raises:
        DataError: there is none; says the nearest.
    """
    ids: list[str] = []
    for shown in rows(dataset, store):
        if shown.row_id == row_id:
            return shown
        _keep(ids, shown.row_id)
    raise _no_row(dataset, row_id, ids)


def source_of(dataset: Dataset, row_id: str, store: Store) -> Source:
    """Which line of which file a row was made from.

    Raises:
        DataError: there is no such row.
    """
    ids: list[str] = []
    with store.path(dataset, "lineage.jsonl").open("rb") as file:
        for line in file:
            told = json.loads(line)
            if told["row_id"] == row_id:
                name = told["origin"].rpartition(":")[0]
                known = dataset.body.sources.get(name)
                return Source(told["origin"], told["sha256"], known, told["split"])
            _keep(ids, told["row_id"])
    raise _no_row(dataset, row_id, ids)


def rejects(dataset: Dataset, store: Store) -> Iterator[dict[str, Any]]:
    """The rows that were left out: file, line, reason, detail."""
    with store.path(dataset, "rejects.jsonl").open("rb") as file:
        for line in file:
            yield json.loads(line)


def difference(one: Dataset, other: Dataset, store: Store) -> Difference:
    """In what `other` differs from `one`."""
    a, b = _Index.of(one, store), _Index.of(other, store)
    in_b, in_a = np.isin(a.ids, b.ids), np.isin(b.ids, a.ids)
    a_at = np.nonzero(in_b)[0]
    order = np.argsort(b.ids)
    b_at = order[np.searchsorted(b.ids, a.ids[a_at], sorter=order)]
    changed = b_at[a.contents[a_at] != b.contents[b_at]]
    moved = b_at[a.splits[a_at] != b.splits[b_at]]
    return Difference(
        added=_change(np.nonzero(~in_a)[0], other, store),
        removed=_change(np.nonzero(~in_b)[0], one, store),
        changed=_change(changed, other, store),
        moved=_change(moved, other, store),
        same=len(a_at) - len(set(changed.tolist()) | set(moved.tolist())),
        domains=_unlike(one.body.domains, other.body.domains),
        dropped=_unlike(one.body.dropped, other.body.dropped),
    )


@dataclass(frozen=True)
class Profile:
    """What a page shows of a dataset's rows: counts, lengths, and some rows of each kind."""

    by_domain: Mapping[str, Mapping[str, int]]
    """Domain ("" without one) -> split -> rows."""
    turns: Mapping[int, int]
    """Messages a row -> rows."""
    characters: NDArray[np.int64]
    """Of every row, all its messages together."""
    samples: Sequence[Shown]
    dropped: Mapping[str, Sequence[Mapping[str, Any]]]
    """Reason -> the first rows that were left out for it."""


def profile(dataset: Dataset, store: Store, *, samples: int = SAMPLES) -> Profile:
    """Count the rows of a dataset; the samples are those with the smallest digests, by domain."""
    by_domain: dict[str, Counter[str]] = {}
    turns: Counter[int] = Counter()
    lengths: list[NDArray[np.int64]] = []
    chosen: dict[str, list[tuple[str, Shown]]] = {}
    for split in dataset.body.splits:
        for batch in _batches(dataset, split, store):
            found = [Shown(split, item) for item in batch.to_pylist()]
            lengths.append(np.array([_characters(item) for item in found], dtype=np.int64))
            turns.update(len(item.row["messages"]) for item in found)
            for item in found:
                domain = item.row["domain"] or ""
                by_domain.setdefault(domain, Counter())[split] += 1
                drawn = hashlib.sha256(item.row_id.encode()).hexdigest()
                best = chosen.setdefault(domain, [])
                best.append((drawn, item))
                best.sort(key=lambda pair: pair[0])
                del best[samples:]
    dropped: dict[str, list[Mapping[str, Any]]] = {}
    for reject in rejects(dataset, store):
        told = dropped.setdefault(reject["reason"], [])
        if len(told) < samples:
            told.append(reject)
    shown = [item for _, best in sorted(chosen.items()) for _, item in best]
    every = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
    return Profile(by_domain, dict(sorted(turns.items())), every, shown, dropped)


@dataclass(frozen=True)
class _Index:
    """A few numbers for every row, in the order of splits and rows."""

    ids: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    splits: NDArray[np.uint64]

    @staticmethod
    def of(dataset: Dataset, store: Store) -> _Index:
        found = []
        for split in dataset.body.splits:
            number = _hash(split)
            for batch in _batches(dataset, split, store):
                for item in batch.to_pylist():
                    item.pop("origin"), item.pop("cluster")
                    row_id = item.pop("row_id")
                    found.append((_hash(row_id), _hash(json.dumps(item, sort_keys=True)), number))
        table = np.array(found, dtype=np.uint64).reshape(-1, 3)
        return _Index(table[:, 0], table[:, 1], table[:, 2])


def _change(places: NDArray[np.int64], dataset: Dataset, store: Store) -> Change:
    """The ids at some places of a dataset."""
    wanted = sorted(places.tolist())[:SAMPLES]
    samples: list[str] = []
    at = 0
    for split in dataset.body.splits:
        for batch in _batches(dataset, split, store):
            here = [place - at for place in wanted if at <= place < at + batch.num_rows]
            samples += [batch["row_id"][place].as_py() for place in here]
            at += batch.num_rows
    return Change(len(places), tuple(samples))


def _unlike(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    pairs = {name: (one.get(name, 0), other.get(name, 0)) for name in sorted({*one, *other})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _batches(dataset: Dataset, split: str, store: Store) -> Iterator[Any]:
    file = pq.ParquetFile(store.path(dataset, f"{split}.parquet"))
    yield from file.iter_batches(batch_size=BATCH_ROWS)


def _characters(shown: Shown) -> int:
    return sum(len(message["content"]) for message in shown.row["messages"])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _keep(ids: list[str], row_id: str) -> None:
    """Note an id as one that may have been meant; the first ones do."""
    if len(ids) < MOST_NEAR:
        ids.append(row_id)


def _no_row(dataset: Dataset, row_id: str, ids: Sequence[str]) -> DataError:
    near = nearest(row_id, ids)
    rows = sum(split.rows for split in dataset.body.splits.values())
    return DataError(
        f"{dataset.label} has no row {row_id!r}",
        found=f"the nearest id is {near!r}" if near else f"{rows:,} rows, such as {ids[0]!r}",
    )


def _require(name: str | None, known: Mapping[str, Any], what: str, dataset: Dataset) -> None:
    if name is not None and name not in known:
        near = nearest(name, known)
        raise DataError(
            f"{dataset.label} has no {what} {name!r}",
            found="it has: " + (", ".join(known) or "none"),
            fix=f"--{what} {near}" if near else None,
        )
