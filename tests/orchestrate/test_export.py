from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from nexa.core.config_sections import QUANTIZATIONS
from nexa.core.errors import IntegrityError, ModelError, StorageError, UsageError
from nexa.core.events import Event, listening
from nexa.core.lineage import verify, walk
from nexa.core.manifest import find_manifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.lm.resolve import resolve
from nexa.orchestrate.export import Request, bits_a_weight, export, preview
from nexa.orchestrate.exported import Exported
from nexa.orchestrate.output import EXPORTED, UNFINISHED, read_output
from nexa.weights.gguf.mixes import MIXES
from tests.support.foreign import CONFIG, full_model, peft_adapter
from tests.support.project import Finished, kinds, notes

NAME = "tiny-llama-elements"
ROOT_FILES = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}


def exported(root: Path, model: str | Path, **asked: Any) -> Exported:
    output = asked.pop("output", root / "exported")
    return export(Request(str(model), output, **asked), root)


def heard_while(root: Path, model: str | Path, **asked: Any) -> tuple[Exported, list[Event]]:
    heard: list[Event] = []
    with listening(heard.append):
        made = exported(root, model, **asked)
    return made, heard


def steps(events: list[Event]) -> list[str]:
    return [event["step"] for event in events if event["kind"] == "step.start"]


def dtypes(folder: Path) -> set[str]:
    found = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return found


# -- safetensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    ["latest", f"export/{NAME}", f"checkpoint/{NAME}@v1", "./output", "./output/adapter"],
)
def test_what_a_run_made_is_handed_out_and_nothing_is_made(project: Finished, model: str) -> None:
    made, heard = heard_while(project.root, model)
    assert steps(heard) == []
    assert made.reused
    assert made.artifact.digest == project.manifest.outputs["export"]
    assert set(made.sizes) >= {*ROOT_FILES, "parity.json", "README.md"}
    for name, digest in made.artifact.files.items():
        sealed = project.tiers.store.blob(digest)
        assert (made.folder / name).read_bytes() == sealed.read_bytes()
    told = read_output(made.folder, EXPORTED)
    assert told["label"] == f"export/{NAME}@v1"
    assert told["lineage"].startswith(
        f"export/{NAME}@v1 \u2190 checkpoint/{NAME}@v1 \u2190 dataset/"
    )
    assert "eval" not in told["lineage"]
    run = find_manifest(project.tiers.manifests, made.run_id)
    assert (run.run_type, run.status, run.eval_status) == ("export", "done", "skipped")
    assert run.output_dir == str(made.folder)
    assert run.outputs == {"export": made.artifact.digest}


def test_a_run_of_an_export_is_not_the_latest_model(project: Finished) -> None:
    exported(project.root, "latest", dtype="float32")
    again, heard = heard_while(project.root, "latest", output=project.root / "other")
    assert again.artifact.body.dtype == "bfloat16"
    assert notes(heard) == [f"latest: what run {project.manifest.run_id} made"]


def test_another_type_is_merged_again_and_rounded_once(project: Finished) -> None:
    made, heard = heard_while(project.root, "latest", dtype="float32")
    assert steps(heard) == ["merge"]
    assert made.artifact.label == f"export/{NAME}-float32@v1"
    assert dtypes(made.folder) == {"F32"}
    assert made.artifact.inputs == {"checkpoint": project.manifest.outputs["checkpoint"]}
    # What was evaluated stays what a checkpoint stands for.
    half = exported(project.root, f"checkpoint/{NAME}", output=project.root / "half")
    assert half.artifact.digest == project.manifest.outputs["export"]


def test_small_files_are_shards_that_transformers_loads(project: Finished) -> None:
    made = exported(project.root, "latest", shard_bytes=20_000)
    shards = sorted(made.folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(path.stat().st_size < 30_000 for path in shards)
    whole = AutoModelForCausalLM.from_pretrained(project.root / "output", dtype=torch.float32)
    parts = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], tensor)
    again, heard = heard_while(project.root, f"export/{NAME}@v2", shard_bytes=20_000)
    assert (steps(heard), again.reused) == ([], True)


def test_an_adapter_from_elsewhere_is_adopted_and_merged(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    made, heard = heard_while(tmp_path, adapter)
    assert steps(heard) == ["adopt", "merge"]
    assert not made.reused
    assert notes(heard)[:2] == [
        f"records are kept in {tmp_path / '.nexa'}, manifests in runs/",
        f"{adapter}: an adapter",
    ]
    labels = [node.label for node in walk(made.artifact, Tiers.of(tmp_path).store)]
    assert labels == ["export/theirs@v1", "adopted/theirs@v1", "tiny-llama (folder)"]
    assert verify(made.artifact, Tiers.of(tmp_path).store) == []
    again, heard = heard_while(tmp_path, adapter)
    assert (steps(heard), kinds(heard).count("step.reused"), again.reused) == ([], 2, True)


def test_an_adapter_s_base_can_be_named(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    with pytest.raises(ModelError, match=r"there is no model .*gone") as gone:
        exported(tmp_path, adapter)
    assert gone.value.fix == f"--base-model MODEL, where it is now ({CONFIG} names ./gone)"
    made = exported(tmp_path, adapter, base_model=str(tiny_llama))
    assert made.artifact.body.base.digest == resolve(str(tiny_llama)).digest
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(UsageError, match="nothing says which model the adapter in"):
        exported(tmp_path, adapter)


def test_a_base_that_it_was_not_trained_from_is_refused(
    project: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    other = full_model(tmp_path / "other", tiny_llama)
    with pytest.raises(UsageError, match="was not trained from"):
        exported(project.root, "latest", dtype="float32", base_model=str(other))
    with pytest.raises(ModelError, match="there is no model 'nothing'"):
        exported(project.root, "latest", dtype="float32", base_model="nothing")
    made = exported(project.root, "latest", dtype="float32", base_model=str(tiny_llama))
    assert made.artifact.body.dtype == "float32"


# -- conversions ---------------------------------------------------------------------------------


def test_a_run_becomes_gguf_with_its_lineage(project: Finished) -> None:
    made, heard = heard_while(project.root, "latest", format="gguf")
    assert steps(heard) == ["convert"]
    assert made.artifact.label == f"export/{NAME}-q8_0@v1"
    assert made.artifact.inputs == {"export": project.manifest.outputs["export"]}
    assert {path.suffix for path in made.folder.iterdir()} == {".gguf", ".json", ".md", ""}
    card = (made.folder / "README.md").read_text()
    assert "| format | GGUF |" in card
    assert "| quantisation | q8_0 |" in card
    assert "ollama create" in card
    assert str(project.root) not in card
    labels = [node.label for node in walk(made.artifact, project.tiers.store)]
    assert labels[:3] == [made.artifact.label, f"export/{NAME}@v1", f"checkpoint/{NAME}@v1"]
    again, heard = heard_while(project.root, "latest", format="gguf")
    assert (steps(heard), again.reused) == ([], True)
    [file] = made.folder.glob("*.gguf")
    for name in (made.artifact.label, str(file)):
        named, heard = heard_while(project.root, name, format="gguf")
        assert (steps(heard), named.artifact) == ([], made.artifact)
    back, heard = heard_while(project.root, str(file), output=project.root / "back")
    assert steps(heard) == ["convert"]
    assert back.artifact.inputs == {"export": made.artifact.digest}


def test_an_adapter_becomes_gguf_in_one_go(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    made, heard = heard_while(tmp_path, adapter, quantization="f16", name="mine")
    assert steps(heard) == ["adopt", "merge", "convert"]
    assert made.artifact.label == "export/mine@v1"
    assert made.artifact.body.dtype == "f16"


def test_a_whole_model_of_nobody_s_is_converted_with_its_own_type(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made, heard = heard_while(tmp_path, tiny_llama)
    assert steps(heard) == ["convert"]
    assert made.artifact.body.dtype == "float32"
    assert dtypes(made.folder) == {"F32"}
    labels = [node.label for node in walk(made.artifact, Tiers.of(tmp_path).store)]
    assert labels == ["export/tiny-llama@v1", "tiny-llama (folder)"]
    half = exported(tmp_path, tiny_llama, dtype="float16", output=tmp_path / "half")
    assert dtypes(half.folder) == {"F16"}
    assert half.artifact.label == "export/tiny-llama-float16@v1"
    # The folder is known by its files, wherever it goes.
    moved = half.folder.rename(tmp_path / "moved")
    again, heard = heard_while(tmp_path, moved, dtype="float16")
    assert (steps(heard), again.artifact.digest) == ([], half.artifact.digest)


# -- what there would be -------------------------------------------------------------------------


def test_a_preview_tells_steps_and_size_and_makes_nothing(
    project: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    before = len(list_manifests(project.tiers.manifests))

    def seen(model: str | Path, **asked: Any) -> tuple[list[str], str]:
        found = preview(Request(str(model), tmp_path / "out", **asked), project.root)
        assert 15_000 < found.size_bytes < 130_000
        return found.steps, found.form

    assert seen("latest") == ([], "safetensors, bfloat16")
    assert seen("latest", dtype="float32") == (["merge"], "safetensors, float32")
    assert seen("latest", quantization="q4_0") == (["convert"], "gguf, q4_0")
    assert seen(adapter, quantization="q8_0") == (["merge", "convert"], "gguf, q8_0")
    assert seen(adapter) == (["merge"], "safetensors, bfloat16")
    assert seen(tiny_llama) == (["convert"], "safetensors, float32")
    assert len(list_manifests(project.tiers.manifests)) == before
    assert not (tmp_path / "out").exists()


def test_every_quantisation_has_a_size() -> None:
    assert set(QUANTIZATIONS) == set(MIXES)
    sizes = {name: bits_a_weight(name) for name in (*QUANTIZATIONS, "bfloat16", "float32")}
    assert sizes["q8_0"] == 8.5
    assert sizes["bfloat16"] == sizes["f16"] == 16
    assert sizes["float32"] == sizes["f32"] == 32
    assert all(2 < size <= 32 for size in sizes.values())


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"quantization": "q4_k"}, "there is no quantisation 'q4_k'"),
        ({"quantization": "q8_0", "format": "safetensors"}, "--quantization cannot be asked of"),
        ({"dtype": "float16", "format": "gguf"}, "--dtype cannot be asked of gguf"),
        (
            {"dtype": "float16", "quantization": "f16", "shard_bytes": 1},
            "--dtype and --max-shard-size cannot be asked of gguf",
        ),
    ],
)
def test_choices_that_do_not_fit_are_refused(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Request("latest", Path("out"), **asked)


def test_an_unknown_quantisation_names_the_nearest() -> None:
    with pytest.raises(UsageError) as refused:
        Request("latest", Path("out"), quantization="q4_km")
    assert refused.value.fix == "--quantization q4_k_m"
    with pytest.raises(UsageError) as refused:
        Request("latest", Path("out"), quantization="xyz")
    assert refused.value.fix is None
    assert "q8_0" in str(refused.value.found)


def test_what_is_no_model_or_has_no_adapter_is_refused_before_there_is_a_run(
    project: Finished, tiny_llama: Path
) -> None:
    before = len(list_manifests(project.tiers.manifests))
    with pytest.raises(ModelError, match="there is no model 'nothing'"):
        exported(project.root, "nothing")
    with pytest.raises(UsageError, match="--base-model is for adapters"):
        exported(project.root, tiny_llama, base_model=str(tiny_llama))
    with pytest.raises(UsageError, match="--base-source wheel is for aliases"):
        exported(project.root, tiny_llama, source="wheel")
    pickled = project.root / "pickled"
    pickled.mkdir()
    (pickled / CONFIG).write_text("{}")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        exported(project.root, pickled)
    assert len(list_manifests(project.tiers.manifests)) == before


def test_a_folder_of_somebody_else_s_is_refused(project: Finished) -> None:
    theirs = project.root / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("mine")
    with pytest.raises(StorageError, match="files that nexa did not put there") as refused:
        exported(project.root, "latest", output=theirs)
    assert refused.value.fix == "--output with an empty or a new folder"
    with pytest.raises(StorageError, match="holds what `nexa train` leaves"):
        exported(project.root, "latest", output=project.root / "output")
    file = project.root / "config.yaml"
    with pytest.raises(StorageError, match="is a file, not a folder"):
        exported(project.root, "latest", output=file)
    assert (theirs / "thesis.tex").read_text() == "mine"


# -- what was stopped ----------------------------------------------------------------------------


def test_a_folder_whose_writing_was_stopped_is_made_whole(project: Finished) -> None:
    def stop(event: Event) -> None:
        if event["kind"] == "saved" and event["path"].endswith("config.json"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        exported(project.root, "latest")
    folder = project.root / "exported"
    assert json.loads((folder / EXPORTED.name).read_text())[UNFINISHED]
    assert not (folder / "model.safetensors").exists()
    stopped = list_manifests(project.tiers.manifests)[-1]
    assert (stopped.run_type, stopped.status) == ("export", "interrupted")
    with pytest.raises(IntegrityError, match="is not whole"):
        exported(project.root, folder, output=project.root / "other")
    (folder / ".model.safetensors.new").write_bytes(b"half of it")
    made = exported(project.root, "latest")
    assert set(read_output(folder, EXPORTED)["files"]) == set(made.sizes)
    assert {path.name for path in folder.iterdir()} == {*made.sizes, EXPORTED.name}


def test_another_export_replaces_the_one_before(project: Finished) -> None:
    exported(project.root, "latest", shard_bytes=20_000)
    made = exported(project.root, "latest")
    assert {path.name for path in made.folder.iterdir()} == {*made.sizes, EXPORTED.name}


def test_a_name_is_for_what_is_new(project: Finished) -> None:
    made, heard = heard_while(project.root, "latest", name="another")
    assert made.artifact.label == f"export/{NAME}@v1"
    assert notes(heard)[1] == (f"it is here already as export/{NAME}@v1: --name is for what is new")
    new = exported(project.root, "latest", name="New One", dtype="float16")
    assert new.artifact.label == "export/new-one@v1"


def test_a_copy_of_a_checkpoint_keeps_its_lineage(project: Finished, tmp_path: Path) -> None:
    shutil.copytree(project.root / "output" / "adapter", tmp_path / "copied")
    made, heard = heard_while(project.root, tmp_path / "copied", dtype="float16")
    assert notes(heard) == [
        f"{tmp_path / 'copied'}: the adapter checkpoint/{NAME}@v1, merged before"
    ]
    assert made.artifact.inputs == {"checkpoint": project.manifest.outputs["checkpoint"]}
