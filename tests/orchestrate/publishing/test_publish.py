from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core.config import PublishSection
from nexa.core.errors import ConfigError, GateError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import find_manifest, read_manifest
from nexa.core.records import Artifact, PublicationBody
from nexa.orchestrate.publishing.publish import (
    Request,
    evidence,
    project_of,
    publish,
    publish_folder,
    section,
)
from nexa.publish.verify import verify_folder
from tests.support.project import Finished, notes, train, versions, write_config

LOCAL = {"repo": "you/elements", "hub": "local"}


def published(project: Finished, **changes: Any) -> Artifact[PublicationBody]:
    wanted = Request(PublishSection(**LOCAL | changes), project.root / "output")
    return publish(wanted, project.tiers)


# -- what is published ---------------------------------------------------------------------------


def test_a_published_folder_verifies_and_the_manifest_says_where_it_is(
    project: Finished,
) -> None:
    publication = published(project)
    folder = Path(publication.body.location)
    assert folder == project.root / ".nexa" / "hub" / "you" / "elements"
    assert all(check.passed for check in verify_folder(folder, expect=publication.body.root))
    run_id = project.manifest.run_id
    assert find_manifest(project.tiers.manifests, run_id).publications == [str(folder)]
    durable = Path(project.tiers.durable_place(f"manifests/{run_id}.json"))
    assert read_manifest(durable).publications == [str(folder)]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("place", ["output", ".nexa/hub/you/elements"])
def test_plain_transformers_loads_the_model_and_plain_peft_the_adapter(
    project: Finished, tiny_llama: Path, place: str
) -> None:
    published(project)
    folder = project.root / place
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)("The value of iron12", return_tensors="pt")
    with torch.no_grad():
        alone = base(**ids).logits
        adapted = PeftModel.from_pretrained(base, folder, subfolder="adapter").eval()
        tuned, whole = adapted(**ids).logits, merged(**ids).logits
    assert not torch.allclose(tuned, alone, atol=1e-3)
    # The merged weights are rounded to bfloat16, once.
    torch.testing.assert_close(whole, tuned, atol=0.02, rtol=0.0)


def test_twice_is_once(project: Finished) -> None:
    first = published(project)
    before = {p: p.stat().st_mtime_ns for p in Path(first.body.location).rglob("*")}
    events: list[Event] = []
    with listening(events.append):
        second = published(project)
    assert second.label == first.label
    assert second.digest == first.digest
    assert {p: p.stat().st_mtime_ns for p in Path(first.body.location).rglob("*")} == before
    assert any(text.startswith("already published") for text in notes(events))
    manifest = find_manifest(project.tiers.manifests, project.manifest.run_id)
    assert manifest.publications == [first.body.location]


def test_what_a_later_run_reused_is_published_with_the_run_that_did_the_work(
    project: Finished,
) -> None:
    again = train(project.config)
    folder = Path(published(project).body.location)
    shipped = json.loads((folder / "nexa" / "manifest.json").read_text())
    assert shipped["run_id"] == project.manifest.run_id != again.run_id
    assert find_manifest(project.tiers.manifests, again.run_id).publications == [str(folder)]
    verify_folder(folder)


def test_a_run_that_reused_only_the_checkpoint_is_published_as_itself(
    project: Finished, tiny_llama: Path
) -> None:
    again = train(write_config(project.root, tiny_llama, eval={"rows": 6}))
    assert "checkpoint" not in again.reused  # another suite: other rows are kept clean of it
    third = train(write_config(project.root, tiny_llama, eval={"forgetting_limit_nats": 5.0}))
    assert "checkpoint" in third.reused
    assert "report" not in third.reused
    folder = Path(published(project).body.location)
    assert json.loads((folder / "nexa" / "manifest.json").read_text())["run_id"] == third.run_id
    verify_folder(folder)


def test_a_private_repository_in_a_folder_is_said_to_be_none(project: Finished) -> None:
    events: list[Event] = []
    with listening(events.append):
        published(project, private=True)
    assert any("no private repositories" in text for text in notes(events))


def test_without_merged_weights_the_adapter_alone_is_published(project: Finished) -> None:
    folder = Path(published(project, merge_adapters=False).body.location)
    assert not (folder / "model.safetensors").exists()
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    verify_folder(folder)


def test_another_hub_folder_gets_a_publication_of_its_own(project: Finished) -> None:
    published(project)
    elsewhere = published(project, hub="./shared-hub")
    folder = project.root / "shared-hub" / "you" / "elements"
    assert elsewhere.body.location == str(folder)
    assert elsewhere.body.hub == "local"
    manifest = find_manifest(project.tiers.manifests, project.manifest.run_id)
    assert len(manifest.publications) == 2


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "adapter/adapter_config.json"])
def test_a_file_that_was_edited_after_its_evaluation_is_refused_by_name(
    project: Finished, name: str
) -> None:
    path = project.root / "output" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(GateError, match="was changed after it was evaluated") as refused:
        published(project)
    assert refused.value.found == name


def test_a_file_that_is_gone_is_refused_by_name_and_a_rerun_mends_it(project: Finished) -> None:
    (project.root / "output" / "config.json").unlink()
    with pytest.raises(GateError, match=r"config\.json"):
        published(project)
    train(project.config)
    assert published(project).body.repo == "you/elements"


def test_a_run_that_has_not_ended_well_is_not_published(project: Finished) -> None:
    failed = project.manifest.model_copy(update={"status": "failed", "error": "the disk was full"})
    with pytest.raises(GateError, match=r"is failed(.|\n)*the disk was full"):
        evidence(failed, project.tiers)


@pytest.mark.parametrize("gone", [["report", "suite"], ["dataset"]])
def test_a_run_without_its_evidence_is_not_published(project: Finished, gone: list[str]) -> None:
    outputs = {r: d for r, d in project.manifest.outputs.items() if r not in gone}
    poor = project.manifest.model_copy(update={"outputs": outputs})
    with pytest.raises(GateError, match="made no " + ", ".join(gone)):
        evidence(poor, project.tiers)


def test_records_that_are_gone_are_said_to_be(project: Finished) -> None:
    shutil.rmtree(project.tiers.store.root)
    with pytest.raises(GateError, match="makes them again"):
        published(project)


def test_an_interrupted_publication_says_how_to_go_on(project: Finished) -> None:
    def interrupt(event: Event) -> None:
        if event["kind"] == "step.start":
            raise KeyboardInterrupt

    heard: list[Event] = []
    with listening(heard.append), listening(interrupt), pytest.raises(KeyboardInterrupt):
        published(project, private=True, model_card=False, merge_adapters=False)
    command = f"nexa publish {project.root}/output --repo you/elements --hub local"
    switches = "--private --no-model-card --no-merge-adapters"
    assert notes(heard)[-1] == f"not published; to go on: {command} {switches}"
    assert not any(project.tiers.scratch.iterdir())


# -- which project, which repository -------------------------------------------------------------


def test_the_model_s_own_project_is_found_from_anywhere(project: Finished, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made = publish_folder(project.root / "output", elsewhere, LOCAL)
    assert Path(made.body.location).is_relative_to(project.root / ".nexa")
    assert project_of(project.root / "output", project.root) == project.root


def test_an_output_that_was_moved_is_published_from_its_project(
    project: Finished, tmp_path: Path
) -> None:
    shutil.move(project.root / "output", tmp_path / "model")
    made = publish_folder(tmp_path / "model", project.root, LOCAL)
    assert Path(made.body.location).is_relative_to(project.root / ".nexa")
    with pytest.raises(UsageError, match="not a run of this project"):
        publish_folder(tmp_path / "model", tmp_path / "other", LOCAL)


def test_a_folder_with_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        publish_folder(tmp_path, tmp_path, LOCAL)


def test_flags_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert section(tmp_path, {"repo": "a/b"}).hub == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert section(tmp_path, {"repo": "a/b"}).hub == "https://hub.example"
    assert section(tmp_path, {"repo": "a/b", "hub": "x"}).hub == str(tmp_path / "x")
    assert section(tmp_path, {"repo": "a/b", "hub": "https://x.y"}).hub == "https://x.y"
    chosen = section(tmp_path, {"repo": "a/b", "model_card": False, "private": None})
    assert (chosen.model_card, chosen.private) == (False, False)


def test_what_flags_do_not_say_is_taken_from_the_config(tmp_path: Path) -> None:
    write_config(tmp_path, "m", publish={"repo": "a/b", "hub": "./hub", "private": True})
    assert section(tmp_path, {"repo": None}).repo == "a/b"
    assert section(tmp_path, {}).hub == "./hub"
    chosen = section(tmp_path, {"repo": "c/d", "hub": "local"})
    assert (chosen.repo, chosen.hub, chosen.private) == ("c/d", "local", True)


def test_a_config_that_publishes_nothing_says_nothing(tmp_path: Path) -> None:
    write_config(tmp_path, "m")
    assert section(tmp_path, {"repo": "a/b"}).hub == "https://huggingface.co"
    with pytest.raises(UsageError, match="--repo OWNER/NAME, or a publish section"):
        section(tmp_path, {})


def test_mistakes_are_told_where_they_were_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--repo: should be owner/name") as refused:
        section(tmp_path, {"repo": "no-owner"})
    assert refused.value.found == "'no-owner'"
    (tmp_path / "config.yaml").write_text("publish: {repositry: a/b}\n")
    with pytest.raises(ConfigError, match="repositry"):
        section(tmp_path, {"repo": "a/b"})


def test_publishing_adds_to_a_closed_manifest_and_changes_nothing_in_it(
    project: Finished,
) -> None:
    published(project)
    told = find_manifest(project.tiers.manifests, project.manifest.run_id)
    before = project.manifest.model_dump(mode="json", exclude={"publications"})
    assert told.model_dump(mode="json", exclude={"publications"}) == before
    assert versions(project.tiers)["publication/you-elements"] == ["v1"]
