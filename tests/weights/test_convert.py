from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ModelError, ParityError, UsageError
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import Store
from nexa.lm.gguf_file import GgufFile
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.convert import ConvertSpec, convert
from nexa.weights.merge_adapter import MergeSpec, merge_adapter
from tests.support import chain
from tests.support.tiny import write_tiny_model
from tests.weights.other_family import write_granite


def checked_out(draft: Draft[ExportBody], store: Store, folder: Path) -> Path:
    return store.checkout(chain.seal(store, "convert", draft), folder)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_another_type_is_the_source_rounded_once(
    base: ModelFiles, store: Store, tmp_path: Path, dtype: str
) -> None:
    spec = ConvertSpec(base, "safetensors", dtype, name="tiny")

    draft = convert(spec, export=None, store=store)

    folder = checked_out(draft, store, tmp_path / "out")
    kind = getattr(torch, dtype)
    source = load_file(base.folder / "model.safetensors")
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, source[name].to(kind)), name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is kind
    assert model.config.tie_word_embeddings is True
    assert draft.name == "tiny"
    assert draft.body.base == base.ref
    assert draft.body.model_digest == resolve(str(folder)).digest
    assert json.loads((folder / "parity.json").read_bytes()) == draft.body.parity


def test_other_shards_hold_the_same_model(base: ModelFiles, store: Store, tmp_path: Path) -> None:
    spec = ConvertSpec(base, "safetensors", "bfloat16", shard_bytes=20_000)

    draft = convert(spec, export=None, store=store)

    assert "model.safetensors.index.json" in draft.files
    folder = checked_out(draft, store, tmp_path / "out")
    assert resolve(str(folder)).digest == draft.body.model_digest


def test_a_gguf_file_comes_with_a_modelfile_and_its_proof(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    draft = convert(ConvertSpec(base, "gguf", "q8_0", name="tiny"), export=None, store=store)

    assert set(draft.files) == {"tiny-q8_0.gguf", "Modelfile", "parity.json"}
    folder = checked_out(draft, store, tmp_path / "out")
    file = GgufFile.open(folder / "tiny-q8_0.gguf")
    assert file.metadata["general.name"] == "tiny"
    assert "FROM ./tiny-q8_0.gguf" in (folder / "Modelfile").read_text()
    assert (draft.body.format, draft.body.dtype, draft.body.passed) == ("gguf", "q8_0", True)
    assert draft.body.parity["types"] == {"Q8_0": 15}


@pytest.mark.parametrize("name", ["tiny-q4_0", "tiny"])
def test_the_quantisation_stands_once_in_the_files_name(
    base: ModelFiles, store: Store, name: str
) -> None:
    draft = convert(ConvertSpec(base, "gguf", "q4_0", name=name), export=None, store=store)

    assert "tiny-q4_0.gguf" in draft.files
    assert draft.name == name


def test_an_export_keeps_its_own_base_in_another_form(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    trained = chain.seal(store, "finetune", chain.checkpoint_draft(base, tmp_path / "trained"))
    merged = chain.seal(
        store, "merge", merge_adapter(MergeSpec(base, "float32"), checkpoint=trained, store=store)
    )
    model = resolve(str(store.checkout(merged, tmp_path / "merged")))

    draft = convert(ConvertSpec(model, "gguf", "f16"), export=merged, store=store)

    assert draft.body.base == merged.body.base == base.ref


def test_two_conversions_are_the_same_bytes(base: ModelFiles, store: Store) -> None:
    drafts = [convert(ConvertSpec(base, "gguf", "q5_0"), export=None, store=store) for _ in "12"]

    assert drafts[0].body == drafts[1].body


def test_a_family_that_only_transformers_computes_is_converted_too(
    store: Store, tmp_path: Path
) -> None:
    model = resolve(str(write_granite(tmp_path / "granite")))

    draft = convert(ConvertSpec(model, "safetensors", "float16"), export=None, store=store)

    assert draft.body.passed
    with pytest.raises(ModelError, match="as GGUF"):
        convert(ConvertSpec(model, "gguf", "f16"), export=None, store=store)


def test_an_adapter_beside_its_base_is_to_be_merged_first(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    trained: Artifact[ExportBody] = chain.seal(
        store, "finetune", chain.checkpoint_draft(base, tmp_path / "trained")
    )
    place = store.checkout(trained, tmp_path / "adapter")
    config = json.loads((place / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = str(base.folder)
    (place / "adapter_config.json").unlink()
    (place / "adapter_config.json").write_text(json.dumps(config))

    with pytest.raises(ModelError, match="merge it first"):
        convert(ConvertSpec(resolve(str(place)), "gguf", "f16"), export=None, store=store)


def test_an_unknown_quantisation_is_refused_with_the_nearest(
    base: ModelFiles, store: Store
) -> None:
    with pytest.raises(UsageError, match="there is no quantisation 'q8'"):
        convert(ConvertSpec(base, "gguf", "q8"), export=None, store=store)


def test_a_type_that_is_none_is_refused_with_the_known_ones(base: ModelFiles, store: Store) -> None:
    with pytest.raises(UsageError, match="there is no type 'float8'") as caught:
        convert(ConvertSpec(base, "safetensors", "float8"), export=None, store=store)

    assert "bfloat16" in str(caught.value)


def test_a_failing_check_stops_the_step_and_leaves_nothing_behind(
    store: Store, tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spec = ConvertSpec(resolve(str(folder)), "safetensors", "float16", scratch=scratch)

    with pytest.raises(ParityError, match="weights_are_numbers"):
        convert(spec, export=None, store=store)

    assert not list(scratch.iterdir())


def test_scratch_is_emptied_when_the_draft_is_gone(
    base: ModelFiles, store: Store, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    draft = convert(ConvertSpec(base, "gguf", "f16", scratch=scratch), export=None, store=store)
    assert list(scratch.iterdir())

    del draft
    gc.collect()

    assert not list(scratch.iterdir())
