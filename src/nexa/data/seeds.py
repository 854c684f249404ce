"""What teachers are shown: training rows, pieces of documents. Never a held-out row."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from nexa.core.errors import DataError
from nexa.core.overlap import example
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.data.loaders import loader_for
from nexa.data.sources import Source
from nexa.lm.plain_text import is_text

TRAIN = "train"
COLUMNS = ["row_id", "messages", "domain", "group"]


@dataclass(frozen=True)
class Seed:
    """A row that new rows are made from: they take its group and its domain."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    group: str
    domain: str | None

    @property
    def before(self) -> tuple[Mapping[str, str], ...]:
        """The turns before the answer."""
        return self.messages[:-1]

    @property
    def asked(self) -> str:
        """What is asked, without system turns."""
        return example(self.messages).prompt

    @property
    def answer(self) -> str:
        """The last turn."""
        return self.messages[-1]["content"]

    def asked_as(self, text: str) -> tuple[Mapping[str, str], ...]:
        """The turns before the answer with the last question in other words."""
        last = max(i for i, turn in enumerate(self.before) if turn["role"] == "user")
        return (*self.before[:last], {"role": "user", "content": text}, *self.before[last + 1 :])

    def system_and(self, text: str) -> tuple[Mapping[str, str], ...]:
        """The row's system turns and a question of its own."""
        system = [turn for turn in self.before if turn["role"] == "system"]
        return (*system, {"role": "user", "content": text})


@dataclass(frozen=True)
class Piece:
    """Some paragraphs of a document. `origin` is file and line."""

    origin: str
    text: str


def training_seeds(dataset: Artifact[DatasetBody], store: Store) -> list[Seed]:
    """The conversations of the split `train`, in its order.

    Raises:
        DataError: there are none.
    """
    if TRAIN not in dataset.body.splits:
        raise DataError(
            f"{dataset.label} has no training rows: held-out rows are shown to no teacher",
            found=", ".join(dataset.body.splits),
        )
    table = pq.read_table(store.path(dataset, f"{TRAIN}.parquet"), columns=COLUMNS)
    found = [
        Seed(row["row_id"], tuple(row["messages"]), row["group"], row["domain"])
        for row in table.to_pylist()
        if not is_text(row["messages"]) and any(m["role"] == "user" for m in row["messages"])
    ]
    if not found:
        raise DataError(
            f"{dataset.label} has no question and answer to begin from",
            found="plain texts, all of them",
            fix="--method question_from_document --documents FILE",
        )
    return found


def pieces(documents: Sequence[Source]) -> list[Piece]:
    """The pieces of documents, as the loaders cut them.

    Raises:
        DataError: a file is no text, or there is none.
    """
    found = []
    for source in documents:
        for line in loader_for(source.path)(source.path, source.name):
            if line.data is not None and isinstance(line.data.get("text"), str):
                found.append(Piece(line.origin, line.data["text"]))
    if not found:
        raise DataError(
            "there is no document to ask about",
            found=", ".join(source.name for source in documents) or "no file",
            fix="--documents FILE|FOLDER   (text, Markdown, or rows with the key text)",
        )
    return found


def order(count: int, wanted: int, seed: int) -> list[tuple[int, int]]:
    """`wanted` pairs (index below `count`, how often it has come): all once before any again."""
    shuffled = list(range(count))
    random.Random(seed).shuffle(shuffled)
    return [(shuffled[i % count], i // count + 1) for i in range(wanted)]
