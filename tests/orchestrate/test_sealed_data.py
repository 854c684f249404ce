"""`data.train_path: dataset/NAME@vN`: what it names, and what is refused of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.config import load_config
from nexa.core.errors import DataError, TemplateError
from nexa.core.events import Event, listening
from nexa.core.store import UnknownArtifact
from nexa.data import registry
from nexa.lm.resolve import resolve
from nexa.orchestrate import plan, sealed_data
from nexa.orchestrate.check.flight import flight_check
from nexa.orchestrate.evaluate import Asked, evaluate_model
from nexa.orchestrate.merge_data import merge_data
from tests.support.project import Finished, notes, rows, train, write_config, write_rows
from tests.support.tiny import CHATML, write_tiny_model


def grown(project: Finished) -> str:
    """A second version, of ten rows more."""
    more = write_rows(project.root / "more.jsonl", rows(range(200, 210)))
    return merge_data("elements", [more], project.config).dataset.label


def test_a_path_that_exists_is_meant_as_one(tmp_path: Path) -> None:
    assert sealed_data.name_in("rows.jsonl", tmp_path) is None
    assert sealed_data.name_in("dataset/x@v1", tmp_path) == "x@v1"
    (tmp_path / "dataset" / "x@v1").mkdir(parents=True)
    assert sealed_data.name_in("dataset/x@v1", tmp_path) is None


def test_a_bare_name_is_the_newest_version_that_stands(project: Finished) -> None:
    tiers = project.tiers
    v1, label = tiers.store.get("dataset", "elements@v1"), grown(project)
    assert sealed_data.current("elements", tiers).label == label
    path = project.root / "dataset_registry.yaml"
    registry.mark(path, tiers.store.get("dataset", "elements@v2"), "rolled back", "no evidence")
    events: list[Event] = []
    with listening(events.append):
        assert sealed_data.current("elements", tiers).digest == v1.digest
    assert any("is the newest of elements that stands" in text for text in notes(events))
    assert sealed_data.current("elements@v2", tiers).label == label
    registry.mark(path, v1, "rolled back", "no evidence")
    with pytest.raises(DataError, match="no version of the dataset elements stands"):
        sealed_data.current("elements", tiers)
    with pytest.raises(UnknownArtifact):
        sealed_data.current("metals", tiers)


def test_a_version_is_trained_on_as_it_was_sealed(project: Finished, tiny_llama: Path) -> None:
    label = grown(project)
    changes = {"train_path": "dataset/elements@v2", "max_length": 400}
    config = write_config(project.root, tiny_llama, data=changes)
    report = flight_check(config, rehearse=False)
    assert report.findings == ()
    told = {result.check: result.detail for result in report.results}
    assert told["dataset"] == f"50 rows to train on in {label}, as it was sealed"
    assert plan.outline(config)["dataset"] == "elements: elements@v2"
    assert plan.outline(config)["held out"] == "./eval.jsonl"
    events: list[Event] = []
    with listening(events.append):
        manifest = train(config)
    assert (manifest.dataset_id, manifest.status) == ("elements@v2", "done")
    assert manifest.outputs["suite"] == project.manifest.outputs["suite"]
    assert f"{label} is trained on as it was sealed: data.max_length has no effect" in notes(events)


def test_without_held_out_rows_of_its_own_it_is_asked_what_it_is_kept_clean_of(
    project: Finished, tiny_llama: Path
) -> None:
    grown(project)
    changes = {"train_path": "dataset/elements", "eval_path": None}
    config = write_config(project.root, tiny_llama, data=changes)
    assert flight_check(config, rehearse=False).findings == ()
    assert plan.outline(config)["held out"] == "what the dataset is kept clean of"
    manifest = train(config)
    assert manifest.outputs["suite"] == project.manifest.outputs["suite"]
    assert (
        evaluate_model(str(tiny_llama), Asked(), project.root).body.suite_digest
        == (manifest.outputs["suite"])
    )


def test_rows_that_nothing_is_held_out_of_are_refused(project: Finished) -> None:
    dataset = project.tiers.store.get("dataset", "elements")
    with pytest.raises(DataError, match="has no suite"):
        sealed_data.require_suite(dataset, None)


def test_rows_of_another_template_are_refused(project: Finished, tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>\n", "<|im_end|>\n\n")
    other = write_tiny_model(tmp_path / "other", chat_template=template)
    dataset = project.tiers.store.get("dataset", "elements")
    with pytest.raises(TemplateError, match="was prepared for another chat template"):
        sealed_data.require_template(dataset, resolve(str(other)))


def test_held_out_rows_alone_cannot_be_trained_on(project: Finished) -> None:
    held_out = project.tiers.store.get("dataset", "elements-eval")
    with pytest.raises(DataError, match="has no rows to train on"):
        sealed_data.file_of(held_out, project.tiers)


def test_what_was_checked_out_once_is_taken_again(project: Finished) -> None:
    dataset = project.tiers.store.get("dataset", "elements")
    path = sealed_data.file_of(dataset, project.tiers)
    assert sealed_data.file_of(dataset, project.tiers) == path
    assert load_config(project.config).data.train_path == "./train.jsonl"
