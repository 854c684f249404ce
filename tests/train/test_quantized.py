from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ConfigError, WeightsError
from nexa.core.events import listening
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import Store
from nexa.lm.adapters import LoraSpec
from nexa.lm.load import load
from nexa.lm.quantized import FourBitLinear
from nexa.lm.resolve import ModelFiles, resolve
from nexa.train.engines import engine
from nexa.train.finetune import finetune
from nexa.train.quantized import quantised_base
from nexa.train.spec import OptimizerSpec, QuantizeSpec, TrainSpec
from tests.support.tiny import write_tiny_model
from tests.train.sample import random_rows
from tests.train.stopping import at, contents, drop, spec_of

LORA: dict[str, Any] = {
    "lora": LoraSpec(rank=4, alpha=8.0),
    "optimizer": OptimizerSpec(lr=1e-2),
    "precision": "float32",
    "batch_size": 4,
    "epochs": 2,
}
QLORA: dict[str, Any] = {**LORA, "quantize": QuantizeSpec()}
ADAPTER = "adapter_model.safetensors"


def test_it_learns_as_lora_does_and_the_record_says_what_it_learned_on(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    longer: dict[str, Any] = {"epochs": 12, "optimizer": OptimizerSpec(lr=2e-2)}
    plain = finetune(TrainSpec(base, **{**LORA, **longer}), dataset=rows, store=store).body
    body = finetune(TrainSpec(base, **{**QLORA, **longer}), dataset=rows, store=store).body

    assert (body.method, body.quantization, body.double_quantization) == ("lora", "nf4", True)
    assert (plain.quantization, plain.double_quantization) == (None, None)
    assert body.final_loss < body.epoch_losses[5] < body.epoch_losses[0]
    learned = plain.first_loss - plain.final_loss
    assert learned > 0.4
    assert body.final_loss == pytest.approx(plain.final_loss, abs=0.05 * learned)
    assert body.final_loss != plain.final_loss


def test_while_it_trains_every_adapted_layer_is_four_bits_in_memory(base: ModelFiles) -> None:
    loaded = load(base, dtype="float32").model
    full = sum(p.nbytes for p in loaded.parameters())

    with engine(TrainSpec(base, **QLORA), random_rows(4), "float32") as executor:
        model = executor.model
        assert model is not loaded
        adapted = {name.partition(".lora_")[0] for name in executor.names()}
        assert len(adapted) == 14
        for name in adapted:
            layer = model.get_submodule(name.removeprefix("base_model.model."))
            assert isinstance(layer, FourBitLinear)
            tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            held = {n: t for n, t in tensors.items() if ".a" not in n and ".b" not in n}
            assert held.keys() == {"packed", "blocks", "nested", "offset"}
            assert held["packed"].dtype is held["blocks"].dtype is torch.uint8
            assert (
                sum(t.nbytes for t in held.values()) < 0.6 * layer.in_features * layer.out_features
            )
        resident = (*model.parameters(), *model.buffers())
        assert sum(t.nbytes for t in resident) < 0.7 * full


def test_equal_runs_give_equal_bytes_and_another_seed_others(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    first = contents(finetune(TrainSpec(base, **QLORA), dataset=rows, store=store))
    torch.manual_seed(99)
    again = contents(finetune(TrainSpec(base, **QLORA), dataset=rows, store=store))
    assert again == first
    other = contents(finetune(TrainSpec(base, seed=1, **QLORA), dataset=rows, store=store))
    assert other[ADAPTER] != first[ADAPTER]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    form = {"quantize": QuantizeSpec()}
    whole = contents(finetune(spec_of(base, tmp_path / "whole", **form), dataset=rows, store=store))
    spec = spec_of(base, tmp_path / "broken", **form)
    with pytest.raises(KeyboardInterrupt), listening(at(5, drop)):
        finetune(spec, dataset=rows, store=store)
    assert list((tmp_path / "broken").iterdir())

    assert contents(finetune(spec, dataset=rows, store=store)) == whole


def test_single_quantisation_is_another_training(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    single = {**QLORA, "quantize": QuantizeSpec(double=False)}
    draft = finetune(TrainSpec(base, **single), dataset=rows, store=store)
    assert draft.body.double_quantization is False
    double = finetune(TrainSpec(base, **QLORA), dataset=rows, store=store)
    assert contents(draft)[ADAPTER] != contents(double)[ADAPTER]


def test_bfloat16_learns_as_float32_does(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store
) -> None:
    exact = finetune(TrainSpec(base, **QLORA), dataset=rows, store=store).body
    short = TrainSpec(base, **{**QLORA, "precision": "bfloat16"})
    rounded = finetune(short, dataset=rows, store=store).body
    assert rounded.epoch_losses == pytest.approx(exact.epoch_losses, abs=0.02)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_the_adapter_loads_in_plain_peft_on_the_plain_base(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    draft = finetune(TrainSpec(base, **QLORA), dataset=rows, store=store)
    sealed = store.seal(draft, step={}, fingerprint="1" * 64, inputs={})
    folder = store.checkout(sealed, tmp_path / "adapter")

    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    ids = torch.tensor([[5, 17, 40, 8, 99, 23]])
    with torch.no_grad():
        before = plain(ids).logits
        after = peft.PeftModel.from_pretrained(plain, folder)(ids).logits
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_that_was_loaded_before_is_left_as_it_was(
    base: ModelFiles, rows: Artifact[DatasetBody], store: Store, precision: str
) -> None:
    loaded = load(base, dtype=precision).model
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    spec = TrainSpec(base, **{**QLORA, "precision": precision})

    finetune(spec, dataset=rows, store=store)

    after = loaded.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert load(base, dtype=precision).model is not loaded  # the process holds one at a time
    assert all(p.requires_grad and p.grad is None for p in loaded.parameters())
    assert not loaded.training


def test_an_error_inside_leaves_the_base_too(base: ModelFiles) -> None:
    loaded = load(base, dtype="float32").model
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    with pytest.raises(ZeroDivisionError), quantised_base(TrainSpec(base, **QLORA), "float32"):
        raise ZeroDivisionError
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in before.items())


def test_a_training_that_asks_for_no_four_bits_is_told_so(base: ModelFiles) -> None:
    with (
        pytest.raises(ConfigError, match="no quantised base"),
        quantised_base(TrainSpec(base, **LORA), "float32"),
    ):
        pass


def test_weights_that_are_not_numbers_are_named_before_they_are_rounded_away(
    rows: Artifact[DatasetBody], store: Store, tmp_path: Path
) -> None:
    folder = write_tiny_model(tmp_path / "broken", seed=3)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="weights are not numbers"):
        finetune(TrainSpec(resolve(str(folder)), **QLORA), dataset=rows, store=store)
