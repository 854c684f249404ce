"""`publish.format: gguf`: made by the run or by publishing, previewed, refused, published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import OlmoConfig, OlmoForCausalLM

from nexa.core.config import PublishSection
from nexa.core.config_sections import QUANTIZATIONS
from nexa.core.errors import GateError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.manifest import find_manifest, list_manifests
from nexa.core.records import Artifact, PublicationBody
from nexa.core.tiers import Tiers
from nexa.orchestrate.publishing.preview import Preview, preview
from nexa.orchestrate.publishing.publish import Request, publish, section
from nexa.orchestrate.verifying.verify import verify
from nexa.publish import layout
from nexa.publish.verify import verify_folder
from nexa.weights.gguf.mixes import MIXES
from tests.support.foreign import full_model
from tests.support.project import (
    Finished,
    notes,
    rows,
    train,
    write_config,
    write_project,
    write_rows,
)
from tests.support.tiny import tiny_tokenizer

GGUF = {"repo": "you/elements", "hub": "local", "format": "gguf"}


def published(project: Finished, **changes: Any) -> Artifact[PublicationBody]:
    wanted = Request(PublishSection(**GGUF | changes), project.root / "output")
    return publish(wanted, project.tiers)


def seen(project: Finished, **changes: Any) -> Preview:
    wanted = Request(PublishSection(**GGUF | changes), project.root / "output")
    return preview(wanted, project.tiers)


def steps(events: list[Event]) -> list[str]:
    return [event["step"] for event in events if event["kind"] == "step.start"]


def test_the_names_are_those_that_can_be_written() -> None:
    assert set(QUANTIZATIONS) == set(MIXES)


def test_a_finished_run_is_published_as_gguf(project: Finished) -> None:
    publication = published(project, quantization="q8_0,f16")
    folder = Path(publication.body.location)
    verify_folder(folder, expect=publication.body.root)
    assert len(list(folder.glob("*.gguf"))) == 2
    assert not list(folder.glob("*.safetensors"))
    told = verify(str(folder), project.root)
    assert "files of the records" in told.checks
    export = project.tiers.store.by_digest(project.manifest.outputs["export"])
    assert told.notes[0].startswith("model.safetensors is not in this folder (sha256 ")
    assert export.files["model.safetensors"] in told.notes[0]
    again: list[Event] = []
    with listening(again.append):
        assert published(project, quantization="q8_0,f16").digest == publication.digest
    assert steps(again) == ["publish"]


def test_training_makes_the_gguf_files_of_its_publication(
    project: Finished, tiny_llama: Path
) -> None:
    write_config(project.root, tiny_llama, publish=GGUF | {"quantization": "q8_0"})
    heard: list[Event] = []
    with listening(heard.append):
        made = train(project.config)
    assert steps(heard) == ["convert", "publish"]
    gguf = project.tiers.store.by_digest(made.outputs["gguf1"])
    assert (gguf.body.format, gguf.body.dtype) == ("gguf", "q8_0")
    assert gguf.inputs["export"] == made.outputs["export"]
    folder = Path(find_manifest(project.tiers.manifests, made.run_id).publications[0])
    verify_folder(folder)
    assert (folder / layout.MODELFILE).is_file()
    assert verify(made.run_id, project.root).checks


def test_what_the_gate_refuses_is_not_converted(tmp_path: Path, tiny_llama: Path) -> None:
    wanted = Request(
        PublishSection(**GGUF),
        full_model(tmp_path / "bad", tiny_llama, strength=0.5),
        base_model=str(tiny_llama),
        eval_data=write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104))),
    )
    heard: list[Event] = []
    with listening(heard.append), pytest.raises(GateError, match="the model forgot"):
        publish(wanted, Tiers.of(tmp_path))
    assert "analyze" in steps(heard)
    assert "convert" not in steps(heard)


def test_a_model_that_cannot_be_gguf_leaves_a_run_that_is_done(tmp_path: Path) -> None:
    model = tmp_path / "model"  # of a family that Nexa writes no GGUF of
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64}
    config = OlmoConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, eos_token_id=2)
    OlmoForCausalLM(config).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    changes = {"publish": GGUF, "eval": {"forgetting_limit_nats": 99.0}}
    with pytest.raises(ModelError, match="olmo"):
        train(write_project(tmp_path, model, **changes))
    (run,) = list_manifests(tmp_path / "runs" / "manifests")
    assert (run.status, run.publications) == ("done", [])
    assert run.deliverables["report"]


# -- what it would be ----------------------------------------------------------------------------


def test_a_preview_estimates_what_is_not_made_yet(project: Finished) -> None:
    before = {path for path in project.root.rglob("*") if ".nexa/scratch" not in str(path)}
    found = seen(project, quantization="q8_0, q4_0")
    assert found.findings == ()
    assert "converted to GGUF first: q8_0, q4_0" in found.notes
    ggufs = {name: size for name, size in found.files.items() if name.endswith(".gguf")}
    assert set(ggufs) < set(found.estimated)
    assert "model.safetensors" not in found.files
    weights = (project.root / "output" / "model.safetensors").stat().st_size
    sizes = sorted(ggufs.values())
    assert 0.2 * weights < sizes[0] < sizes[1] < 0.6 * weights
    assert {path for path in project.root.rglob("*") if ".nexa/scratch" not in str(path)} == before


def test_a_preview_of_what_is_made_is_exact(project: Finished) -> None:
    guessed = seen(project)
    made = published(project)
    sizes = {name: (Path(made.body.location) / name).stat().st_size for name in made.files}
    found = seen(project)
    assert found.files == sizes
    assert found.estimated == ()
    assert {name for name in guessed.files if name.endswith(".gguf")} <= set(sizes)


def test_a_preview_of_what_is_not_evaluated_says_what_follows(
    project: Finished, tiny_llama: Path
) -> None:
    model = full_model(project.root / "theirs", tiny_llama)
    wanted = Request(PublishSection(**GGUF), model, eval_data=Path("rows.jsonl"))
    found = preview(wanted, project.tiers)
    assert "then converted to GGUF (q8_0), which is published without safetensors" in found.notes


# -- what others made ----------------------------------------------------------------------------


def test_whole_weights_from_elsewhere_are_published_as_gguf(
    tmp_path: Path, tiny_llama: Path
) -> None:
    held_out = write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104)))
    wanted = Request(
        PublishSection(**GGUF),
        full_model(tmp_path / "theirs", tiny_llama),
        allow=("worse", "forgetting"),
        base_model=str(tiny_llama),
        eval_data=held_out,
    )
    heard: list[Event] = []
    with listening(heard.append):
        folder = Path(publish(wanted, Tiers.of(tmp_path)).body.location)
    verify_folder(folder)
    assert [path.suffix for path in folder.glob("*.gguf")] == [".gguf"]
    assert any("contamination was not checked" in text for text in notes(heard))


# -- flags over config.yaml ----------------------------------------------------------------------


def test_the_command_line_goes_before_config_yaml(tmp_path: Path) -> None:
    write_config(tmp_path, "m", publish={"repo": "a/b", "format": "gguf", "quantization": "f16"})
    nothing: dict[str, Any] = {"format": None, "quantization": ()}
    assert section(tmp_path, nothing).quantizations == ("f16",)
    assert section(tmp_path, {"quantization": ("q8_0", "q4_0")}).quantizations == ("q8_0", "q4_0")
    assert section(tmp_path, {"format": "safetensors"}).quantizations == ()
    with pytest.raises(UsageError, match="--quantization: is of format: gguf"):
        section(tmp_path, {"format": "safetensors", "quantization": ("q8_0",)})
    with pytest.raises(UsageError, match="did you mean 'q4_k_m'"):
        section(tmp_path, {"quantization": ("q4km",)})
    with pytest.raises(UsageError, match="--format: gguf is made from merged weights"):
        section(tmp_path, {"merge_adapters": False})
