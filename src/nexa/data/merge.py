"""A new version of a dataset: its rows as they are, and those of the candidates that pass.

Candidates are a dataset, too, so they were read and checked by `prepare`. Here they meet the old
rows: copies and near-copies of those are left out, and so is what gives a prompt of the suite
away. No old row is dropped or changes its split; a candidate that belongs with old rows (their
group, or alike to them) takes their split, all others are trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from nexa.core.errors import DataError, TemplateError
from nexa.core.events import emit
from nexa.core.records import Artifact, DatasetBody, Draft, SuiteBody
from nexa.core.store import Store
from nexa.data import files
from nexa.data.filters.duplicates import drop_exact, drop_near
from nexa.data.filters.leaks import drop_leaks, read_suite
from nexa.data.filters.lengths import (
    Measured,
    choose_length,
    drop_long,
    measure,
    positions_of,
    quantiles,
)
from nexa.data.filters.split import Placed, place
from nexa.data.rows import Content, Line, Reject, Row
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

TRAIN = "train"


@dataclass(frozen=True)
class MergeSpec:
    """How candidates are added to a dataset."""

    model: ModelFiles  # whose template the dataset was prepared for
    near_duplicates: Literal["drop", "keep"] = "drop"


class NothingNew(DataError):
    """Every candidate was left out: the dataset stays the version that it is."""


def merge(
    spec: MergeSpec,
    *,
    dataset: Artifact[DatasetBody],
    candidates: Artifact[DatasetBody],
    suite: Artifact[SuiteBody] | None = None,
    store: Store,
) -> Draft[DatasetBody]:
    """The dataset with those candidates added that pass its filters.

    The draft's files are those of `nexa.data.prepare`; rows read and rows dropped are those of
    both datasets together, and what is dropped here.

    Raises:
        NothingNew: no candidate is left; says why.
        TemplateError: the dataset was prepared for another chat template.
        TruncationError: more than 1 % of all rows would be too long.
    """
    template = _same_template(spec, dataset)
    old = read_placed(dataset, store)
    names = _new_names(dataset.body, candidates.body)
    new = [_renamed(item.row, names) for item in read_placed(candidates, store)]
    sieve = _Sieve([item.row for item in old], new)
    sieve.keep(*drop_exact(sieve.all, settled=len(old)))
    if spec.near_duplicates == "drop":
        sieve.keep(*drop_near(sieve.all, settled=len(old)))
    if suite is not None:
        kept, leaked = drop_leaks(sieve.new, read_suite(store.path(suite, "prompts.jsonl")))
        sieve.keep([*sieve.old, *kept], leaked)
    before = measure(sieve.old, template)
    after = measure(sieve.new, template)
    sieve.keep([*sieve.old, *after.rows], after.refused)
    lengths = before.lengths + after.lengths
    max_length = max(
        dataset.body.max_length,
        choose_length(quantiles(lengths), positions_of(spec.model.config)),
    )
    measured = Measured(before.rows + after.rows, lengths, [])
    _, long = drop_long(measured, max_length)
    sieve.keep(_without(sieve.all, long), long)
    default = TRAIN if TRAIN in dataset.body.splits else next(iter(dataset.body.splits))
    settled = [(item.split, item.cluster) for item in old]
    placed, torn = place(sieve.all, eval_fraction=0.0, only=default, settled=settled)
    sieve.keep(_without(sieve.all, torn), torn)
    rejects = _rejects(candidates, names, store) + [item.to_json() for item in sieve.rejects]
    body = _body(dataset.body, candidates.body, names, placed, sieve.rejects)
    body = body.model_copy(
        update={"length_quantiles": quantiles(lengths), "max_length": max_length}
    )
    emit("note", text=f"{dataset.label}: {len(sieve.new)} of {len(new)} candidates are added")
    return Draft("dataset", dataset.name, body, _files(dataset, store, placed, rejects))


def read_placed(dataset: Artifact[DatasetBody], store: Store) -> list[Placed]:
    """The rows of a dataset with their splits, in the order of its lineage."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for split in dataset.body.splits:
        table = pq.read_table(store.path(dataset, f"{split}.parquet"))
        rows |= {(split, row["row_id"]): row for row in table.to_pylist()}
    placed = []
    for line in _json_lines(store.path(dataset, "lineage.jsonl")):
        row = rows[line["split"], line["row_id"]]
        placed.append(Placed(_row(row, line["sha256"]), line["split"], row["cluster"]))
    return placed


def _row(record: Mapping[str, Any], sha256: str) -> Row:
    """A row as it was when it was placed: what it had no id or group for, it has none for now."""
    labels = {name: record[name] for name in ("domain", "source", "quality_score")}
    row = Row(Line.at(record["origin"], sha256), Content(tuple(record["messages"]), **labels))
    if record["row_id"] != row.row_id:
        row = Row(row.line, replace(row.content, id=record["row_id"]))
    if record["group"] != row.group:
        row = Row(row.line, replace(row.content, group=record["group"]))
    return row


def _same_template(spec: MergeSpec, dataset: Artifact[DatasetBody]) -> ChatTemplate:
    template = ChatTemplate(load_tokenizer(spec.model))
    if template.sha256 != dataset.body.template_sha256:
        raise TemplateError(
            f"{dataset.label} was prepared for another chat template than that of "
            f"{spec.model.name}",
            found=f"template {dataset.body.template_sha256[:16] or 'unknown'}, "
            f"not {template.sha256[:16]}",
            fix="prepare the dataset for this model first: nexa data prepare",
        )
    return template


class _Sieve:
    """Old rows, which stay, and candidates, which may go."""

    def __init__(self, old: Sequence[Row], new: Sequence[Row]) -> None:
        self.old = list(old)
        self.new = list(new)
        self.rejects: list[Reject] = []

    @property
    def all(self) -> list[Row]:
        """The old rows, then the candidates."""
        return self.old + self.new

    def keep(self, rows: Sequence[Row], rejects: Sequence[Reject]) -> None:
        """What a filter gives back of all rows.

        Raises:
            NothingNew: no candidate came out.
        """
        self.new = list(rows[len(self.old) :])
        self.rejects += rejects
        if not self.new:
            counts = Counter(reject.reason for reject in self.rejects)
            raise NothingNew(
                "no candidate adds anything",
                found=", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
                or "no candidates",
            )


def _without(rows: Sequence[Row], rejects: Sequence[Reject]) -> list[Row]:
    gone = {id(reject.line) for reject in rejects}
    return [row for row in rows if id(row.line) not in gone]


def _new_names(old: DatasetBody, new: DatasetBody) -> dict[str, str]:
    """The candidates' files by the names that they have from now on: no two files share one."""
    return {
        name: name if old.sources.get(name, digest) == digest else f"{digest[:8]}/{name}"
        for name, digest in new.sources.items()
    }


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    return Row(replace(row.line, file=names.get(row.line.file, row.line.file)), row.content)


def _body(
    old: DatasetBody,
    new: DatasetBody,
    names: Mapping[str, str],
    placed: Sequence[Placed],
    rejects: Iterable[Reject],
) -> DatasetBody:
    formats = dict.fromkeys([*old.format.split(", "), *new.format.split(", ")])
    dropped = Counter(old.dropped) + Counter(new.dropped)
    dropped.update(reject.reason for reject in rejects)
    domains = Counter(item.row.content.domain for item in placed if item.row.content.domain)
    return old.model_copy(
        update={
            "format": ", ".join(formats),
            "sources": {**old.sources, **{names[n]: sha for n, sha in new.sources.items()}},
            "splits": {
                name: files.split_info([item for item in placed if item.split == name])
                for name in old.splits
            },
            "rows_read": old.rows_read + new.rows_read,
            "dropped": dict(sorted(dropped.items())),
            "domains": dict(sorted(domains.items())),
        }
    )


def _rejects(
    candidates: Artifact[DatasetBody], names: Mapping[str, str], store: Store
) -> list[dict[str, Any]]:
    """What was left out of the candidates before, under the names that their files have now."""
    found = _json_lines(store.path(candidates, "rejects.jsonl"))
    return [{**line, "file": names.get(line["file"], line["file"])} for line in found]


def _files(
    dataset: Artifact[DatasetBody],
    store: Store,
    placed: Sequence[Placed],
    rejects: Sequence[Mapping[str, Any]],
) -> dict[str, bytes | Path]:
    made: dict[str, bytes | Path] = {
        f"{name}.parquet": files.parquet([item for item in placed if item.split == name])
        for name in dataset.body.splits
    }
    made["lineage.jsonl"] = files.lineage(placed)
    before = store.path(dataset, "rejects.jsonl").read_bytes()
    made["rejects.jsonl"] = before + files.json_lines(rejects)
    return made


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
