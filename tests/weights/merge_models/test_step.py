from __future__ import annotations

import dataclasses
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core.errors import ModelError, ParityError, StorageError
from nexa.core.events import listening
from nexa.core.records import Artifact, ExportBody
from nexa.core.store import Store
from nexa.lm.folder import digests
from nexa.lm.resolve import ModelFiles
from nexa.orchestrate.runner import run_step
from nexa.weights.merge_models import step
from nexa.weights.merge_models.recipe import recipe_of
from nexa.weights.merge_models.step import MergeModelsSpec, merge_models
from tests.support.tiny import CHATML
from tests.weights.merge_models import made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def spec_of(models: tuple[ModelFiles, ...], scratch: Path, **changes: Any) -> MergeModelsSpec:
    names = tuple("abc"[: len(models)])
    recipe = recipe_of("ties", names[:-1], base=names[-1], weights=[1.0, 0.5], densities=[0.5])
    return MergeModelsSpec(
        **{"recipe": recipe, "models": models, "name": "mine", "scratch": scratch} | changes
    )


def sealed(
    spec: MergeModelsSpec, store: Store, **parents: Artifact[Any]
) -> tuple[Artifact[ExportBody], bool]:
    return run_step("merge_models", spec, parents, store=store)


def test_models_become_a_folder_that_transformers_loads_with_proof_and_parents(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path, tmp_path: Path
) -> None:
    heard: list[dict[str, Any]] = []
    spec = spec_of(three_models, scratch, name="My Merge")

    with listening(heard.append):
        export, _ = sealed(spec, store)

    gc.collect()
    assert list(scratch.iterdir()) == []
    body = export.body
    assert (export.kind, export.name, body.format, body.dtype) == (
        *("export", "my-merge", "safetensors"),
        "bfloat16",
    )
    assert body.base == three_models[2].ref
    assert body.parents == [model.ref for model in three_models]
    assert body.recipe == spec.recipe.to_json()
    assert body.passed
    folder = store.checkout(export, tmp_path / "child")
    assert json.loads((folder / "parity.json").read_bytes()) == body.parity
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert str(model.dtype) == "torch.bfloat16"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == CHATML
    for name in digests(three_models[2].folder):
        if name.startswith(("tokenizer", "chat_template")):
            assert (folder / name).read_bytes() == (three_models[2].folder / name).read_bytes()
    generation = json.loads((folder / "generation_config.json").read_bytes())
    assert generation["eos_token_id"] == tokenizer.eos_token_id == 2
    assert [e["checks"] for e in heard if e["kind"] == "weights.parity"] == [
        len(body.parity["checks"])
    ]


def test_where_and_how_it_is_made_is_no_part_of_what_it_is(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path, tmp_path: Path
) -> None:
    spec = spec_of(three_models, scratch, threads=1)
    first, _ = sealed(spec, store)

    again, reused = sealed(dataclasses.replace(spec, threads=3, name="other"), store)
    elsewhere, _ = sealed(
        dataclasses.replace(spec, threads=3, scratch=tmp_path), Store(tmp_path / "elsewhere")
    )
    shards, _ = sealed(dataclasses.replace(spec, shard_bytes=20_000), store)

    assert reused
    assert again.digest == first.digest
    assert elsewhere.files == first.files
    assert shards.digest != first.digest
    assert "model.safetensors.index.json" in shards.files


def test_an_export_among_the_models_is_its_lineage(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path
) -> None:
    parent, _ = sealed(spec_of(three_models, scratch), store)

    child, _ = sealed(
        spec_of(three_models, scratch, name="child", shard_bytes=1 << 20), store, parent2=parent
    )

    assert child.inputs == {"parent2": parent.digest}


def test_a_linear_merge_without_a_base_is_based_on_its_first_model(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path, tmp_path: Path
) -> None:
    recipe = recipe_of("linear", ["a", "b"], weights=[0.25, 0.75], dtype="float32", tokenizer="b")
    export, _ = sealed(MergeModelsSpec(recipe, three_models[:2], scratch=scratch), store)

    assert export.name == "merged"
    assert export.body.base == three_models[0].ref
    found = load_file(store.path(export, "model.safetensors"))
    one, two = (load_file(model.folder / "model.safetensors") for model in three_models[:2])
    for name, tensor in found.items():
        assert float((tensor - 0.25 * one[name] - 0.75 * two[name]).abs().max()) < 1e-7


def test_a_template_that_cannot_be_settled_is_noted_and_kept(
    store: Store, scratch: Path, tmp_path: Path
) -> None:
    odd = "{{ raise_exception('no') }}"
    models = made.files(
        made.model(tmp_path / "a", template=odd), made.model(tmp_path / "b", seed=1, template=odd)
    )
    recipe = recipe_of("slerp", ["a", "b"], t=0.5)

    with made.Notes() as notes:
        export, _ = sealed(MergeModelsSpec(recipe, tuple(models), scratch=scratch), store)

    assert any("cannot be settled" in text for text in notes.texts)
    assert store.path(export, "chat_template.jinja").read_text() == odd


def test_a_proof_that_fails_leaves_nothing(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path, tmp_path: Path
) -> None:
    [large] = made.files(made.model(tmp_path / "large", seed=7))
    made.edit_tensors(large.folder, lambda tensors: tensors["model.norm.weight"].fill_(1e6))
    [large] = made.files(large.folder)  # beyond what float16 has numbers for
    recipe = recipe_of("linear", ["a", "b"], dtype="float16")

    with pytest.raises(ParityError, match="weights_are_numbers"):
        sealed(MergeModelsSpec(recipe, (large, three_models[0]), scratch=scratch), store)

    assert list(scratch.iterdir()) == []
    assert store.names("export") == []


def test_no_room_is_known_before_anything_is_computed(
    three_models: tuple[ModelFiles, ...],
    store: Store,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "size_bytes", lambda plan, dtype: 1 << 60)
    with pytest.raises(StorageError, match="not enough disk space for the merged model"):
        sealed(spec_of(three_models, scratch), store)

    assert list(scratch.iterdir()) == []


def test_models_that_do_not_fit_are_refused_before_there_is_a_folder(
    three_models: tuple[ModelFiles, ...], store: Store, scratch: Path, tmp_path: Path
) -> None:
    [other] = made.files(made.model(tmp_path / "qwen", "qwen2"))

    with pytest.raises(ModelError):
        merge_models(spec_of((*three_models[:2], other), scratch), store=store)

    assert list(scratch.iterdir()) == []
