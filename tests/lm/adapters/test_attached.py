from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from nexa.core.errors import ModelError
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec, attach, start
from tests.lm.adapters.twins import BASE, KINDS, SPEC, logits, loss, stirred
from tests.support.tiny import tiny_model


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_fresh_adapter_changes_nothing_but_can_learn(kind: str) -> None:
    model = tiny_model()
    before = logits(model)
    lora = attach(model, KINDS[kind], seed=0)
    assert torch.allclose(logits(model), before, atol=1e-6)
    loss(model).backward()
    for name, parameter in zip(lora.names, lora.parameters, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.any() or ".lora_A." in name  # A's comes through B, which is zero


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_detached_model_is_exactly_what_it_was(kind: str) -> None:
    model = tiny_model()
    model.get_input_embeddings().requires_grad_(False)
    names = list(model.state_dict())
    trained = {n: p.requires_grad for n, p in model.named_parameters()}
    before = logits(model)
    lora = stirred(model, KINDS[kind])
    assert list(model.state_dict()) == names
    assert not any(p.requires_grad for p in model.parameters())
    assert not torch.allclose(logits(model), before)
    lora.detach()
    assert torch.equal(logits(model), before)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == trained
    assert not any("forward" in m.__dict__ for m in model.modules())


def test_the_base_can_be_asked_while_an_adapter_is_on() -> None:
    model = tiny_model()
    before = logits(model)
    lora = stirred(model)
    tuned = logits(model)
    with lora.disabled():
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), tuned)


def test_a_second_adapter_is_refused() -> None:
    model = tiny_model()
    attach(model, SPEC, seed=0)
    with pytest.raises(ModelError, match="carries an adapter already"):
        attach(model, SPEC, seed=0)


def test_a_is_drawn_as_peft_draws_it() -> None:
    lora = attach(tiny_model(), LoraSpec(rank=64, alpha=8.0), seed=0)
    for adapter in lora.adapters.values():
        bound = 1 / math.sqrt(adapter.layer.in_features)
        assert adapter.a.abs().max() <= bound
        assert math.isclose(float(adapter.a.detach().std()), bound / math.sqrt(3), rel_tol=0.05)
        assert not adapter.b.any()
        assert adapter.a.dtype == adapter.b.dtype == torch.float32


def test_each_layers_start_hangs_on_the_seed_and_its_name_alone() -> None:
    every = attach(tiny_model(), SPEC, seed=3).state()
    few = attach(tiny_model(), LoraSpec(4, 8.0, target_modules=("v_proj",)), seed=3).state()
    other = attach(tiny_model(), SPEC, seed=4).state()
    assert few
    for name, tensor in few.items():
        assert torch.equal(tensor, every[name])
        assert ".lora_B." in name or not torch.equal(tensor, other[name])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whoever_starts_a_layer_by_itself_starts_it_alike(kind: str) -> None:
    spec = KINDS[kind]
    for name, adapter in attach(tiny_model(), spec, seed=3).adapters.items():
        layer = adapter.layer
        a, b = start(spec, 3, name, layer.in_features, layer.out_features)
        assert torch.equal(a, adapter.a)
        assert torch.equal(b, adapter.b)
        assert len(a) == spec.rank_of(name)
        numbers = sum(parameter.numel() for parameter in adapter.parameters)
        assert numbers == spec.numbers(name, layer.in_features, layer.out_features)


def test_a_magnitude_begins_as_its_rows_length() -> None:
    for adapter in attach(tiny_model(), KINDS["dora"], seed=0).adapters.values():
        assert isinstance(adapter.layer, nn.Linear)
        assert adapter.magnitude is not None
        assert torch.allclose(adapter.magnitude, adapter.layer.weight.norm(dim=1))
        assert adapter.magnitude.dtype == torch.float32


def test_a_state_is_a_copy_by_pefts_names() -> None:
    lora = stirred(tiny_model(), KINDS["dora"])
    state = lora.state()
    assert list(state) == lora.names
    assert len(state) == 3 * 14
    magnitude = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    state[magnitude].zero_()
    assert lora.state()[magnitude].all()


def test_an_adapters_dropout_rests_outside_training() -> None:
    model = tiny_model()
    lora = stirred(model, LoraSpec(4, 8.0, dropout=0.5))
    assert torch.equal(logits(model), logits(model))
    lora.model.train()
    assert not torch.equal(logits(model), logits(model))


def test_another_models_adapter_is_refused(tmp_path: Path, tiny_llama: Path) -> None:
    adapters.write(tmp_path, stirred(tiny_model()).state(), SPEC, BASE)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.layers[1].mlp.down_proj = nn.Linear(64, 40)
    with pytest.raises(ModelError, match="does not fit this model"):
        adapters.load(model, tmp_path)
