"""Lineage: from a report back to the files it grew from, with no gap unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.identity import sha256_bytes
from nexa.core.lineage import verify, walk
from nexa.core.records import Artifact, DatasetBody, ExportBody, ModelRef
from nexa.core.store import Store
from tests.core.samples import MODEL, answers_body, checkpoint_body, dataset_body, seal


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def dataset(store: Store) -> Artifact[DatasetBody]:
    return seal(
        store,
        kind="dataset",
        body=dataset_body(sources={"b.jsonl": "b" * 64, "a.jsonl": "a" * 64}),
        files={"train.parquet": b"rows"},
    )


def chain(store: Store, dataset: Artifact[DatasetBody]) -> Artifact[object]:
    """dataset -> suite and checkpoint -> base answers (no step stands for the models)."""
    inputs = {"dataset": dataset.digest}
    suite = seal(store, inputs=inputs)
    checkpoint = seal(
        store, kind="checkpoint", body=checkpoint_body(), files={"adapter": b"w"}, inputs=inputs
    )
    return seal(
        store,
        kind="answers",
        body=answers_body(),
        files={"answers.jsonl": b"a"},
        inputs={"suite": suite.digest, "checkpoint": checkpoint.digest},
    )


def test_the_walk_goes_down_to_files_and_models(
    store: Store, dataset: Artifact[DatasetBody]
) -> None:
    nodes = [(n.depth, n.role, n.label, n.step) for n in walk(chain(store, dataset), store)]
    below = [(3, "source", "a.jsonl", "file"), (3, "source", "b.jsonl", "file")]
    assert nodes == [
        (0, "", "answers/metals@v1", "freeze"),
        (1, "checkpoint", "checkpoint/metals@v1", "freeze"),
        (2, "dataset", "dataset/metals@v1", "freeze"),
        *below,
        (2, "base", "tiny (folder)", "model"),
        (1, "suite", "suite/metals@v1", "freeze"),
        (2, "dataset", "dataset/metals@v1", "freeze"),
        *below,
        (1, "model", "tiny (folder)", "model"),
    ]


def test_answers_of_an_export_name_the_export_and_not_the_model_twice(store: Store) -> None:
    export = seal(store)  # any artifact
    answers = seal(store, kind="answers", body=answers_body(), inputs={"export": export.digest})
    assert [node.role for node in walk(answers, store)] == ["", "export"]


def test_a_whole_lineage_has_no_problems(store: Store, dataset: Artifact[DatasetBody]) -> None:
    assert verify(chain(store, dataset), store) == []


def test_every_problem_is_told_once_however_many_ways_lead_to_it(
    store: Store, dataset: Artifact[DatasetBody]
) -> None:
    top = chain(store, dataset)
    store.path(dataset, "train.parquet").unlink()
    store.path(top, "answers.jsonl").unlink()
    assert verify(top, store) == [
        "answers/metals@v1: answers.jsonl is missing",
        "dataset/metals@v1: train.parquet is missing",
    ]


def test_a_record_that_is_gone_is_a_gap_with_a_name(
    store: Store, dataset: Artifact[DatasetBody]
) -> None:
    top = chain(store, dataset)
    (store.root / "records" / "dataset" / f"{dataset.digest}.json").unlink()
    with pytest.raises(IntegrityError) as caught:
        verify(top, store)
    assert caught.value.what == "the lineage of checkpoint/metals@v1 has a gap"
    assert f"its dataset, {dataset.digest[:16]}" in str(caught.value.found)


def test_a_record_that_was_changed_stops_the_walk(
    store: Store, dataset: Artifact[DatasetBody]
) -> None:
    top = chain(store, dataset)
    record = store.root / "records" / "dataset" / f"{dataset.digest}.json"
    record.write_text(record.read_text().replace('"rows_read":5', '"rows_read":6'))
    with pytest.raises(IntegrityError, match="changed after it was sealed"):
        verify(top, store)


def export_body(**changes: Any) -> ExportBody:
    facts: dict[str, Any] = {"format": "safetensors", "dtype": "float32", "base": MODEL}
    return ExportBody(**facts | {"model_digest": "d" * 64, "parity": {}, "passed": True} | changes)


def other(name: str) -> ModelRef:
    return ModelRef(name=name, origin="hub:org/x@1", digest=sha256_bytes(name.encode()))


def roles(artifact: Artifact[Any], store: Store) -> list[tuple[int, str, str]]:
    return [(node.depth, node.role, node.label) for node in walk(artifact, store)][1:]


def test_a_conversion_of_an_outside_model_names_the_model(store: Store) -> None:
    alone = seal(store, kind="export", body=export_body())
    assert roles(alone, store) == [(1, "base", "tiny (folder)")]
    again = seal(store, kind="export", body=export_body(), inputs={"export": alone.digest})
    assert [label for _, _, label in roles(again, store)] == [alone.label, "tiny (folder)"]


def test_a_merged_adapter_s_base_stands_behind_its_checkpoint(store: Store) -> None:
    checkpoint = seal(store, kind="checkpoint", body=checkpoint_body())
    export = seal(
        store, kind="export", body=export_body(), inputs={"checkpoint": checkpoint.digest}
    )
    assert [(depth, role) for depth, role, _ in roles(export, store)] == [
        (1, "checkpoint"),
        (2, "base"),
    ]


def test_a_merge_names_the_parents_that_are_no_exports_and_its_base(store: Store) -> None:
    parent = seal(store, kind="export", body=export_body())
    refs = [other("a"), other("b")]
    child = seal(
        store,
        kind="export",
        body=export_body(parents=refs),
        inputs={"parent1": parent.digest},
    )
    assert roles(child, store) == [
        (1, "parent1", parent.label),
        (2, "base", "tiny (folder)"),
        (1, "parent2", "b (hub:org/x@1)"),
        (1, "base", "tiny (folder)"),
    ]
    of_its_own = seal(store, kind="export", body=export_body(parents=refs, base=refs[0]))
    assert [role for _, role, _ in roles(of_its_own, store)] == ["parent1", "parent2"]
    sealed_base = seal(
        store, kind="export", body=export_body(parents=refs), inputs={"parent3": parent.digest}
    )
    assert [role for depth, role, _ in roles(sealed_base, store) if depth == 1] == [
        "parent3",
        "parent1",
        "parent2",
    ]
