from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ParityError
from nexa.core.records import Artifact, CheckpointBody
from nexa.core.store import Store
from nexa.lm.nf4 import dequantise, quantise
from nexa.lm.quantized import quantize_linears
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.merge_adapter import MergeSpec, merge_adapter, tuned_weights
from nexa.weights.parity import prove
from nexa.weights.quantised import quantised_names, trained_base
from nexa.weights.tensors import model_weights
from tests.support import chain
from tests.support.tiny import write_tiny_model
from tests.weights.other_family import write_granite

QLORA: dict[str, Any] = {"quantization": "nf4", "double_quantization": True}
IDS = torch.tensor([[1, 40, 41, 42, 2, 99]])
NAME = "model.layers.0.mlp.up_proj.weight"


def body(base: ModelFiles, tmp_path: Path, **changes: Any) -> CheckpointBody:
    weights = tmp_path / "weights"
    weights.write_bytes(b"")
    return chain.checkpoint_body(base, weights, **changes)


@pytest.fixture
def trained(base: ModelFiles, store: Store, tmp_path: Path) -> Artifact[CheckpointBody]:
    draft = chain.checkpoint_draft(base, tmp_path / "trained", **QLORA)
    return chain.seal(store, "finetune", draft)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_weights_are_to_the_last_bit_what_the_training_multiplied(
    base: ModelFiles, tmp_path: Path, precision: str, double: bool
) -> None:
    recorded = body(
        base, tmp_path, precision=precision, quantization="nf4", double_quantization=double
    )

    weights = trained_base(base.folder, model_weights(base.folder), recorded)

    dtype = getattr(torch, precision)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype)
    replaced = quantize_linears(model, double=double)
    assert quantised_names(base.folder) == {f"{name}.weight" for name in replaced}
    for name in replaced:
        assert torch.equal(
            weights.tensor(f"{name}.weight"), model.get_submodule(name).dense().float()
        )
        assert weights.tensor(f"{name}.weight").dtype is torch.float32
    embedding = "model.embed_tokens.weight"
    assert torch.equal(
        weights.tensor(embedding), load_file(base.folder / "model.safetensors")[embedding]
    )
    assert weights.names == model_weights(base.folder).names


def test_the_layers_of_a_family_that_only_transformers_computes_are_asked_of_it(
    store: Store, tmp_path: Path
) -> None:
    model = resolve(str(write_granite(tmp_path / "base")))
    draft = chain.checkpoint_draft(model, tmp_path / "trained", **QLORA)

    merged = merge_adapter(
        MergeSpec(model), checkpoint=chain.seal(store, "finetune", draft), store=store
    )

    assert merged.body.passed
    assert len(quantised_names(model.folder)) == 14


def test_a_base_that_was_not_quantised_is_read_as_it_is(base: ModelFiles, tmp_path: Path) -> None:
    weights = model_weights(base.folder)
    assert trained_base(base.folder, weights, body(base, tmp_path)) is weights


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_merge_is_what_peft_merges_into_the_dequantised_base(
    base: ModelFiles, trained: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    draft = merge_adapter(MergeSpec(base, dtype="float32"), checkpoint=trained, store=store)

    folder = store.checkout(chain.seal(store, "merge", draft), tmp_path / "out")
    merged = load_file(folder / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        for name in quantised_names(base.folder):
            weight = model.get_parameter(name)
            weight.copy_(dequantise(*quantise(weight)))
    adapter = store.checkout(trained, tmp_path / "adapter")
    oracle = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    for name, tensor in merged.items():
        assert torch.allclose(tensor, oracle[name], rtol=1e-5, atol=1e-6), name
    plain = load_file(base.folder / "model.safetensors")
    assert not torch.allclose(merged[NAME], plain[NAME], atol=1e-2)


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_architectures_and_precisions_pass_parity(
    architecture: str, precision: str, store: Store, tmp_path: Path
) -> None:
    model = resolve(str(write_tiny_model(tmp_path / "base", architecture, tied=False)))
    draft = chain.checkpoint_draft(model, tmp_path / "trained", precision=precision, **QLORA)
    trained = chain.seal(store, "finetune", draft)

    merged = merge_adapter(MergeSpec(model), checkpoint=trained, store=store)

    assert merged.body.passed


def test_a_merge_into_the_plain_base_fails_parity(
    base: ModelFiles, trained: Artifact[CheckpointBody], store: Store, tmp_path: Path
) -> None:
    plain = chain.seal(store, "finetune", chain.checkpoint_draft(base, tmp_path / "plain"))
    draft = merge_adapter(MergeSpec(base), checkpoint=plain, store=store)
    folder = store.checkout(chain.seal(store, "merge", draft), tmp_path / "out")
    (folder / "parity.json").unlink()
    adapter = store.checkout(trained, tmp_path / "adapter")

    parity = prove(
        folder,
        tuned_weights(base.folder, adapter, trained.body),
        base_folder=base.folder,
        checkpoint=trained.body,
        adapter=adapter,
        dtype="bfloat16",
    )

    with pytest.raises(ParityError, match="tensors_exact"):
        parity.require()
