from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.publishing.source import Source, detect
from tests.support.foreign import as_trainer_checkpoint, full_model, peft_adapter
from tests.support.project import Finished, notes


def found(folder: Path | str, root: Path) -> Source:
    events: list[Event] = []
    with listening(events.append):
        source = detect(str(folder), Tiers.of(root))
    assert notes(events) == [f"{folder}: {source.said}"]
    return source


def run_of(source: Source) -> str | None:
    return source.manifest.run_id if source.manifest else None


# -- what nexa made ------------------------------------------------------------------------------


def test_a_run_is_known_by_its_output_its_id_and_its_records(project: Finished) -> None:
    run_id = project.manifest.run_id
    by_output = found(project.root / "output", project.root)
    assert (by_output.kind, by_output.said) == ("run", f"the output of run {run_id}")
    for reference in (run_id, "latest"):
        assert found(reference, project.root).said == f"what run {run_id} made"
    for kind in ("checkpoint", "export"):
        artifact = project.tiers.store.by_digest(project.manifest.outputs[kind])
        by_name = found(artifact.label, project.root)
        assert by_name.kind == "run"
        assert by_name.said.endswith(f"which nexa trained in run {run_id}")
        assert run_of(by_name) == run_id


def test_a_checkpoint_in_durable_storage_is_known_by_its_bytes(project: Finished) -> None:
    folder = Path(project.manifest.checkpoint_dir_durable or "")
    assert run_of(found(folder, project.root)) == project.manifest.run_id
    adapter = found(project.root / "output" / "adapter", project.root)
    assert run_of(adapter) == project.manifest.run_id


def test_a_changed_copy_of_a_checkpoint_is_somebody_else_s_adapter(project: Finished) -> None:
    folder = shutil.copytree(project.root / "output" / "adapter", project.root / "copy")
    config = folder / "adapter_config.json"
    config.write_bytes(config.read_bytes() + b"\n")
    assert found(folder, project.root).kind == "adapter"
    (folder / "adapter_model.safetensors").write_bytes(b"other weights")
    assert found(folder, project.root).said == "an adapter"


def test_a_checkpoint_without_a_report_is_told_so(project: Finished) -> None:
    for path in project.tiers.manifests.iterdir():
        path.unlink()
    checkpoint = project.tiers.store.by_digest(project.manifest.outputs["checkpoint"])
    source = found(checkpoint.label, project.root)
    assert (source.kind, source.manifest, source.checkpoint) == ("checkpoint", None, checkpoint)
    assert source.said == f"{checkpoint.label}, which nexa trained and did not evaluate"


# -- what others made ----------------------------------------------------------------------------


def test_an_adapter_and_full_weights_are_told_apart(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = found(peft_adapter(tmp_path / "adapter", tiny_llama), tmp_path)
    assert (adapter.kind, adapter.said) == ("adapter", "an adapter")
    full = found(full_model(tmp_path / "full", tiny_llama), tmp_path)
    assert (full.kind, full.said) == ("full", "full weights")


def test_a_trainer_s_checkpoint_says_its_step(tmp_path: Path, tiny_llama: Path) -> None:
    folder = as_trainer_checkpoint(full_model(tmp_path / "full", tiny_llama), step=7)
    source = found(folder, tmp_path)
    assert source.said == "full weights, a checkpoint of transformers' Trainer at step 7"
    assert source.trainer_step == 7
    for state in ('{"global_step": "many"}', "{}", "no JSON"):
        (folder / "trainer_state.json").write_text(state)
        assert found(folder, tmp_path).said == "full weights"


@pytest.mark.parametrize(
    ("config", "pickles"),
    [
        ("adapter_config.json", ["adapter_model.bin"]),
        ("config.json", ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin"]),
        ("config.json", ["model.pt"]),
    ],
)
def test_pickles_are_refused_by_name(tmp_path: Path, config: str, pickles: list[str]) -> None:
    for name in (config, *pickles):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match="are pickles, which run code") as refused:
        detect(str(tmp_path), Tiers.of(tmp_path))
    assert refused.value.found == ", ".join(pickles)


def test_what_is_wrong_with_a_folder_is_told_beside_exports_of_ones_own(
    project: Finished, tiny_llama: Path
) -> None:
    folder = full_model(project.root / "theirs", tiny_llama)
    (folder / "tokenizer.json").unlink()
    assert found(folder, project.root).said == "full weights"


def test_a_configuration_without_weights_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no weights as safetensors"):
        detect(str(tmp_path), Tiers.of(tmp_path))


def test_a_model_and_an_adapter_in_one_folder_are_not_guessed_at(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = full_model(tmp_path / "both", tiny_llama)
    peft_adapter(folder, tiny_llama)
    with pytest.raises(UsageError, match="which of them is meant"):
        detect(str(folder), Tiers.of(tmp_path))


def test_the_newest_of_a_trainer_s_checkpoints_is_named(tmp_path: Path) -> None:
    for name in ("checkpoint-60", "checkpoint-200", "runs"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-60", "checkpoint-200"):
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no model") as refused:
        detect(str(tmp_path), Tiers.of(tmp_path))
    assert refused.value.fix == f"name the folder inside it: {tmp_path / 'checkpoint-200'}"


def test_what_is_nothing_is_refused(project: Finished, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="an empty folder"):
        detect(str(empty), project.tiers)
    with pytest.raises(UsageError, match="there is no folder"):
        detect("nowhere", project.tiers)
    with pytest.raises(UsageError, match="is a file"):
        detect(str(project.config), project.tiers)
    with pytest.raises(UnknownArtifact):
        detect("checkpoint/none", project.tiers)
    card = project.root / "output" / "final_model.json"
    card.write_text(json.dumps({"files": {}}))
    with pytest.raises(IntegrityError, match="it names no run"):
        detect(str(project.root / "output"), project.tiers)
