from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.identity import fingerprint
from nexa.core.manifest import ManifestFile, list_manifests
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import UnknownArtifact
from nexa.lm.resolve import resolve
from nexa.orchestrate.models import merged_from, run_of, sealed_export, whole_model
from nexa.orchestrate.run import prepare_only
from tests.support.project import Finished, finish, notes, train, write_config, write_project


@pytest.fixture
def export(project: Finished) -> Artifact[ExportBody]:
    found: Artifact[ExportBody] = project.tiers.store.get("export", "tiny-llama-elements")
    return found


def test_a_checkpoint_stands_for_the_export_that_was_merged_from_it(
    project: Finished, export: Artifact[ExportBody]
) -> None:
    for name in ("checkpoint/tiny-llama-elements@v1", "checkpoint/tiny-llama-elements"):
        found = whole_model(name, project=project.root)
        assert found.digest == export.body.model_digest
        assert found.origin == f"export:{export.digest}"
        assert found.adapter is None


def test_an_older_checkpoint_stands_for_its_own_export(
    project: Finished, export: Artifact[ExportBody], tiny_llama: Path
) -> None:
    train(write_config(project.root, tiny_llama, training={"seed": 5}))
    older = whole_model("checkpoint/tiny-llama-elements@v1", project=project.root)
    newer = whole_model("checkpoint/tiny-llama-elements", project=project.root)
    assert older.digest == export.body.model_digest != newer.digest


def test_all_weights_too_stand_for_their_export(tmp_path: Path, tiny_llama: Path) -> None:
    run = finish(
        tmp_path, tiny_llama, lora=None, training={"method": "full"}, optimizer={"lr": 1e-3}
    )
    export = run.tiers.store.by_digest(run.manifest.outputs["export"])
    label = run.tiers.store.by_digest(run.manifest.outputs["checkpoint"]).label
    assert whole_model(label, project=run.root).origin == f"export:{export.digest}"


def test_a_run_stands_for_its_export(project: Finished, export: Artifact[ExportBody]) -> None:
    run_id = project.manifest.run_id
    for name in (run_id, run_id[:15], "latest"):
        assert whole_model(name, project=project.root).digest == export.body.model_digest


def test_a_whole_model_is_itself(project: Finished, tiny_llama: Path) -> None:
    assert whole_model(str(tiny_llama), project=project.root).origin == "folder"
    output = whole_model("./output", project=project.root)
    assert output.adapter is None
    assert output.origin == "folder"


def test_an_adapter_that_nothing_was_merged_from_is_refused(
    tmp_path: Path, tiny_llama: Path
) -> None:
    def stop_before_the_merge(event: Event) -> None:
        if event["kind"] == "step.start" and event["step"] == "merge":
            raise KeyboardInterrupt

    config = write_project(tmp_path, tiny_llama)
    with pytest.raises(KeyboardInterrupt), listening(stop_before_the_merge):
        train(config)
    [stopped] = list_manifests(tmp_path / "runs" / "manifests")
    assert "checkpoint" in stopped.outputs
    with pytest.raises(ModelError, match="is an adapter, and no merged export of it is here"):
        whole_model("latest", project=tmp_path)


def test_latest_is_the_newest_run_that_has_a_whole_model(project: Finished) -> None:
    prepare_only(project.config)
    events: list[Event] = []
    with listening(events.append):
        assert run_of("latest", project.tiers) == project.manifest.run_id
    assert notes(events)[0].startswith(f"latest: run {project.manifest.run_id}")


def test_names_that_nothing_has_are_refused(project: Finished) -> None:
    with pytest.raises(UnknownArtifact, match="checkpoint/tiny-llama-elements"):
        whole_model("checkpoint/tiny-llama-element", project=project.root)
    with pytest.raises(UsageError, match="there is no run 1999-01-01"):
        whole_model("1999-01-01", project=project.root)


def test_a_folder_that_looks_like_a_day_is_a_folder(project: Finished) -> None:
    assert run_of("latest", project.tiers) == project.manifest.run_id
    assert run_of("./output", project.tiers) is None
    Path("2024-01-01").mkdir()
    assert run_of("2024-01-01", project.tiers) is None


def test_exports_without_a_checkpoint_stand_for_none(
    project: Finished, export: Artifact[ExportBody]
) -> None:
    sealed_without_checkpoint(project, export)
    found = whole_model("checkpoint/tiny-llama-elements@v1", project=project.root)
    assert found.origin == f"export:{export.digest}"


def test_a_checkpoint_stands_for_what_was_evaluated_and_else_for_the_newest(
    project: Finished, export: Artifact[ExportBody]
) -> None:
    checkpoint = export.inputs["checkpoint"]
    single = export.body.model_copy(update={"dtype": "float32"})
    newer = sealed(project, export, single, {"checkpoint": checkpoint})
    assert merged_from(checkpoint, project.tiers.store) == export
    for version in project.tiers.store.versions("export", export.name):
        (project.tiers.store.root / "names" / "export" / export.name / version).unlink()
    assert merged_from(checkpoint, project.tiers.store) == newer
    assert merged_from("0" * 64, project.tiers.store) is None


def test_an_export_is_known_by_its_files(
    project: Finished, export: Artifact[ExportBody], tiny_llama: Path
) -> None:
    store = project.tiers.store
    assert sealed_export(resolve("./output"), store) == export
    assert sealed_export(resolve(str(tiny_llama)), store) is None


def test_latest_falls_back_to_a_checkpoint_and_passes_exports_over(project: Finished) -> None:
    tiers = project.tiers
    run = project.manifest
    outputs = {role: digest for role, digest in run.outputs.items() if role != "export"}
    for path in tiers.manifests.glob("*"):
        path.unlink()
    for number, kind in enumerate(("train", "eval", "export"), 1):
        facts = run.model_copy(
            update={
                "run_id": f"{run.run_id[:-1]}{number}",
                "run_type": kind,
                "outputs": outputs if kind == "train" else {},
                "status": "running",
            }
        )
        ManifestFile.open(tiers.manifests, facts)
    events: list[Event] = []
    with listening(events.append):
        assert run_of("latest", tiers) == f"{run.run_id[:-1]}1"
    assert notes(events) == [f"latest: run {run.run_id[:-1]}1; later ones have made no model"]
    for number in (1, 2):
        (tiers.manifests / f"{run.run_id[:-1]}{number}.json").unlink()
    assert run_of("latest", tiers) == f"{run.run_id[:-1]}3"


def sealed_without_checkpoint(project: Finished, export: Artifact[ExportBody]) -> None:
    """As a conversion and a merge of models are."""
    sealed(project, export, export.body, {"export": export.digest})
    sealed(project, export, export.body.model_copy(update={"parents": [export.body.base]}), {})


def sealed(
    project: Finished, export: Artifact[ExportBody], body: ExportBody, inputs: dict[str, str]
) -> Artifact[ExportBody]:
    store = project.tiers.store
    draft = Draft("export", "another", body, {"parity.json": b"{}"})
    step = {"name": "convert", "version": 1}
    recipe = fingerprint("convert", 1, body.model_dump(mode="json"), inputs)
    return store.seal(draft, step=step, fingerprint=recipe, inputs=inputs)
