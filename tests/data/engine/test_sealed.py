"""Rows of sealed datasets come back as they were, in pieces of any size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa.core.errors import IntegrityError
from nexa.core.records import Artifact, DatasetBody, Draft
from nexa.core.store import Store
from nexa.data.engine.sealed import unsealed
from nexa.data.engine.stager import Job, Stager
from nexa.data.files import COLUMNS
from nexa.data.merge import MergeSpec, merge
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import content, contents, record
from tests.data.conftest import WriteRows

Rows = list[dict[str, Any]]


def seal(store: Store, draft: Draft[Any], step: str) -> Artifact[Any]:
    return store.seal(
        draft, step={"name": step, "version": 1}, fingerprint=f"{step:0>64}", inputs={}
    )


@pytest.fixture
def dataset(write_rows: WriteRows, model: ModelFiles, store: Store) -> Artifact[DatasetBody]:
    rows: Rows = [record(i, domain="d") for i in range(30)]
    rows += [record(i, group=f"g{i % 3}", id=f"r{i}", quality_score=0.5) for i in range(30, 50)]
    path = write_rows([*rows, "{"], "old.jsonl")
    spec = PrepareSpec("x", sources_of(path), model, eval_fraction=0.3)
    return seal(store, prepare(spec, store=store), "old")


@pytest.fixture
def candidates(write_rows: WriteRows, model: ModelFiles, store: Store) -> Artifact[DatasetBody]:
    rows = [*(record(i, domain="e") for i in range(100, 140)), record(3), record(105), "["]
    sources = sources_of(write_rows(rows, "c/old.jsonl"))
    spec = PrepareSpec("c", sources, model, only_split="train")
    return seal(store, prepare(spec, store=store), "new")


def laid_out(dataset: Artifact[Any], store: Store, folder: Path, part_rows: int) -> Rows:
    parts = unsealed(dataset, store, folder, first=3, settled=True, part_rows=part_rows)
    rows: Rows = []
    for number, part in enumerate(parts, start=3):
        assert (part.number, part.place) == (number, dataset.label)
        rows += pa.ipc.open_file(part.path).read_all().to_pylist()
    return rows


@pytest.mark.parametrize("part_rows", [1, 7, 1000])
def test_rows_come_in_the_order_of_their_lineage(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path, part_rows: int
) -> None:
    rows = laid_out(dataset, store, tmp_path, part_rows)
    lines = [
        json.loads(line) for line in store.path(dataset, "lineage.jsonl").read_bytes().splitlines()
    ]
    keys = ("row_id", "split", "origin", "sha256")
    assert [{key: row[key] for key in keys} for row in rows] == lines
    by_split = {
        split: pq.read_table(store.path(dataset, f"{split}.parquet")).to_pylist()
        for split in dataset.body.splits
    }
    for split, expected in by_split.items():
        mine = [{key: row[key] for key in COLUMNS.names} for row in rows if row["split"] == split]
        assert mine == expected


@pytest.mark.parametrize("change", ["order", "fewer"])
def test_a_lineage_of_other_rows_is_refused(
    dataset: Artifact[DatasetBody], store: Store, tmp_path: Path, change: str
) -> None:
    lines = store.path(dataset, "lineage.jsonl").read_bytes().splitlines(keepends=True)
    lines = lines[::-1] if change == "order" else [*lines, lines[-1]]
    files = {**dataset.files, "lineage.jsonl": store.put(b"".join(lines))}
    with pytest.raises(IntegrityError, match="does not name its rows"):
        laid_out(replace(dataset, files=files), store, tmp_path, 100)


def test_a_row_has_the_id_and_group_that_it_had(
    dataset: Artifact[DatasetBody], store: Store, model: ModelFiles, tmp_path: Path
) -> None:
    stager = Stager(Job(model, tmp_path))
    for part in unsealed(dataset, store, tmp_path, first=0, settled=True, part_rows=20):
        assert stager.read(part, lambda _: None).files == ["old.jsonl"]


@pytest.mark.parametrize("options", [{"part_rows": 3}, {"part_rows": 20, "workers": 2}])
def test_pieces_and_processes_change_nothing(
    dataset: Artifact[DatasetBody],
    candidates: Artifact[DatasetBody],
    store: Store,
    model: ModelFiles,
    options: dict[str, int],
) -> None:
    spec = MergeSpec(model)
    whole = merge(spec, dataset=dataset, candidates=candidates, store=store)
    cut = merge(replace(spec, **options), dataset=dataset, candidates=candidates, store=store)
    assert contents(cut) == contents(whole)
    assert cut.body == whole.body
    assert whole.body.dropped == {"exact duplicate": 2, "malformed": 2}
    lines = content(whole, "lineage.jsonl").decode().splitlines()
    assert json.loads(lines[50])["origin"].endswith("/old.jsonl:1")
    assert json.loads(lines[50])["origin"] != "old.jsonl:1"
