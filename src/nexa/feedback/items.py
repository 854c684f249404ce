"""Rows as feedback looks at them, be they a suite's, a pool's or those that were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from nexa.core.errors import DataError
from nexa.core.overlap import example
from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.scoring import read_rows
from nexa.core.store import Store

TRAIN = "train"
COLUMNS = ["row_id", "messages", "domain", "group"]


@dataclass(frozen=True)
class Item:
    """One row. `before` are the turns before its answer."""

    id: str
    group: str
    domain: str | None
    before: tuple[Mapping[str, str], ...]
    answer: str
    tags: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """What is asked, without system turns."""
        return "\n".join(turn["content"] for turn in self.before if turn["role"] != "system")

    @property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        """All turns."""
        return (*self.before, {"role": "assistant", "content": self.answer})

    @property
    def content(self) -> tuple[str, str]:
        """What makes two rows the same, wherever they stand."""
        told = example(self.messages)
        return told.prompt, told.answer


def suite_items(suite: Artifact[SuiteBody], store: Store) -> list[Item]:
    """The questions of a suite, in its order."""
    rows = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    return [
        Item(
            id=str(row["id"]),
            group=str(row.get("group") or row["id"]),
            domain=row.get("domain"),
            before=tuple(row["messages"]),
            answer=_text(row["target"]),
            tags=_tags(row),
        )
        for row in rows
    ]


def training_items(dataset: Artifact[DatasetBody], store: Store) -> list[Item]:
    """The rows of a dataset's split `train`, in its order.

    Raises:
        DataError: it has no such rows.
    """
    if not dataset.body.splits.get(TRAIN) or f"{TRAIN}.parquet" not in dataset.files:
        raise DataError(
            f"{dataset.label} has no training rows: held-out rows are no one's candidates",
            found=", ".join(dataset.body.splits) or "no splits",
        )
    path = store.path(dataset, f"{TRAIN}.parquet")
    known = set(pq.read_schema(path).names)
    table = pq.read_table(path, columns=[*COLUMNS, *sorted({"tags", "labels"} & known)])
    return [
        Item(
            id=row["row_id"],
            group=row["group"] or row["row_id"],
            domain=row["domain"],
            before=tuple(row["messages"][:-1]),
            answer=row["messages"][-1]["content"],
            tags=_tags(row),
        )
        for row in table.to_pylist()
    ]


def _tags(row: Mapping[str, Any]) -> tuple[str, ...]:
    """`tags` is a list of words, `labels` has names and values: `kind:letter`."""
    tags: Sequence[Any] = row.get("tags") or ()
    labels: Mapping[str, Any] = row.get("labels") or {}
    named = [f"{name}:{value}" for name, value in labels.items() if value is not None]
    return tuple(dict.fromkeys([*map(str, tags), *named]))


def _text(target: Any) -> str:
    return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False)
