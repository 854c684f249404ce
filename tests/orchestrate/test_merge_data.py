"""`nexa data merge` on a trained project: new versions, registered, clean of the suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.core.lineage import walk
from nexa.core.manifest import find_manifest
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.data.registry import read
from nexa.orchestrate.merge_data import merge_data, suite_of
from nexa.orchestrate.run import prepare_only
from tests.support.hub_emulator import HubEmulator
from tests.support.project import Finished, notes, rows, write_project, write_rows


def test_new_rows_make_a_version_with_its_parent(project: Finished) -> None:
    new = write_rows(project.root / "new.jsonl", [*rows(range(300, 305)), *rows([3, 102])])
    merged = merge_data("elements", [new], project.config)
    assert (merged.parent.version, merged.dataset.label) == ("v1", "dataset/elements@v2")
    assert merged.added == {"train": 5}
    body = merged.dataset.body
    assert body.dropped == {"exact duplicate": 1, "leaks a held-out row": 1}
    assert body.sources.keys() == {"train.jsonl", "new.jsonl"}
    entry = read(project.root / "dataset_registry.yaml")["elements"]["v2"]
    assert (entry["parent"], entry["digest"]) == ("elements@v1", merged.dataset.digest)
    assert merged.dataset.inputs["dataset"] == merged.parent.digest
    roles = {node.role for node in walk(merged.dataset, project.tiers.store)}
    assert {"dataset", "candidates", "suite", "source"} <= roles
    manifest = find_manifest(project.tiers.manifests, "latest")
    assert (manifest.run_type, manifest.status) == ("data_gen", "done")
    assert manifest.dataset_id == "elements@v2"
    assert (project.root / ".nexa" / "durable" / "datasets" / "elements" / "v2").is_dir()


def test_equal_files_make_one_version(project: Finished) -> None:
    new = write_rows(project.root / "new.jsonl", rows(range(300, 305)))
    first = merge_data("elements@v1", [new], project.config)
    again = merge_data("elements@v1", [str(new)], project.config)
    assert again.dataset.label == first.dataset.label == "dataset/elements@v2"
    heard: list[Event] = []
    with listening(heard.append):
        newest = merge_data("elements", [new], project.config)
    assert newest.dataset.label == newest.parent.label == "dataset/elements@v2"
    assert newest.added == {"train": 0}
    assert newest.why == "exact duplicate 5"
    assert "dataset/elements@v2 stays as it is: exact duplicate 5" in notes(heard)
    assert project.tiers.store.versions("dataset", "elements") == ["v1", "v2"]
    assert find_manifest(project.tiers.manifests, "latest").dataset_id == "elements@v2"


def test_a_third_version_is_kept_clean_of_the_same_suite(project: Finished) -> None:
    for number, first in enumerate((300, 310)):
        new = write_rows(project.root / f"new{number}.jsonl", rows(range(first, first + 4)))
        merged = merge_data("elements", [new], project.config)
    assert merged.dataset.label == "dataset/elements@v3"
    store = project.tiers.store
    suite = store.get("suite", "elements")
    assert suite_of(merged.dataset, store) == suite
    assert merged.dataset.inputs["suite"] == suite.digest


def test_a_dataset_with_its_own_held_out_rows_has_their_suite(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path, tiny_llama, data={"eval_path": None, "eval_fraction": 0.25})
    dataset = prepare_only(config)
    store = Tiers.of(tmp_path).store
    name = dataset.name
    assert suite_of(dataset, store) == store.get("suite", name)
    new = write_rows(tmp_path / "new.jsonl", rows(range(300, 305)))
    first = merge_data(name, [new], config)
    assert first.added == {"eval": 0, "train": 5}
    assert suite_of(first.dataset, store) == store.get("suite", name)
    eval_dataset = store.get("dataset", f"{name}-candidates")
    heard: list[Event] = []
    with listening(heard.append):
        other = merge_data(
            eval_dataset.name, [write_rows(tmp_path / "x.jsonl", rows([400]))], config
        )
    assert suite_of(other.dataset, store) is None
    assert any("has no suite" in text for text in notes(heard))


def test_a_dataset_that_is_not_there_gets_the_nearest_name(project: Finished) -> None:
    with pytest.raises(UnknownArtifact, match="no dataset named 'element'"):
        merge_data("element", ["eval.jsonl"], project.config)


def test_rows_of_the_hub_are_prepared_with_their_commit(
    hub_emulator: HubEmulator, tmp_path: Path, tiny_llama: Path
) -> None:
    train = "".join(json.dumps(row) + "\n" for row in rows(range(40))).encode()
    held = "".join(json.dumps(row) + "\n" for row in rows(range(100, 110))).encode()
    files = {"data/train.jsonl": train, "data/test.jsonl": held, "README.md": b"# Elements"}
    hub_emulator.add_repo("lab/elements", files, kind="dataset")
    config = write_project(
        tmp_path / "p",
        tiny_llama,
        data={"train_path": "lab/elements", "eval_path": "lab/elements/data/test.jsonl"},
    )
    dataset = prepare_only(config)
    (name,) = dataset.body.sources
    head, _, rest = name.partition("@")
    assert (head, rest[40:]) == ("hf://lab/elements", "/data/train.jsonl")
    store = Tiers.of(tmp_path / "p").store
    line = json.loads(store.path(dataset, "lineage.jsonl").read_text().splitlines()[0])
    assert line["origin"] == f"{name}:1"
    assert dataset.name == "lab-elements"
    commit = rest[:40]
    merged = merge_data("lab-elements", [f"hf://lab/elements@{commit}/data/train.jsonl"], config)
    assert merged.why == "exact duplicate 40"
