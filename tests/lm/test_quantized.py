from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from nexa.core.errors import ModelError
from nexa.lm import quantized
from nexa.lm.adapters import LoraSpec, attach
from nexa.lm.nf4 import dequantise, quantise
from nexa.lm.quantized import FourBitLinear, quantize_linears
from tests.support.tiny import ARCHITECTURES, tiny_model

IDS = torch.tensor([[5, 17, 40, 8, 99, 23, 11, 7], [9, 9, 31, 250, 4, 60, 2, 3]])
# SmolLM2-135M's config.json, without its weights.
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(input_ids=IDS).logits
    return out


def loss(model: nn.Module) -> Tensor:
    return cross_entropy(model(input_ids=IDS[:, :-1]).logits.flatten(0, 1), IDS[:, 1:].flatten())


def dequantised(model: PreTrainedModel) -> PreTrainedModel:
    """A copy whose linear weights were rounded through four bits, and which knows nothing of it."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in quantized.linear_layers(other).values():
            layer.weight.copy_(dequantise(*quantise(layer.weight)))
    return other


def resident_bytes(model: nn.Module) -> int:
    """What all of a model's tensors take, each once."""
    held = (*model.parameters(), *model.buffers())
    return sum({t.data_ptr(): t.nbytes for t in held}.values())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_it_answers_as_the_dequantised_weights_do(architecture: str, tied: bool) -> None:
    model = tiny_model(architecture, tied=tied)
    expected = logits(dequantised(model))
    before = logits(model)

    quantize_linears(model)

    assert torch.equal(logits(model), expected)
    assert not torch.equal(expected, before)


def test_every_linear_layer_but_the_head_is_four_bits_and_nothing_else_is() -> None:
    model = tiny_model("qwen2", tied=False)

    replaced = quantize_linears(model)

    assert all(isinstance(model.get_submodule(name), FourBitLinear) for name in replaced)
    linears = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert linears == ["lm_head"]
    assert {name.rsplit(".", 1)[-1] for name in replaced} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    for name in replaced:
        layer = model.get_submodule(name)
        held = dict(layer.named_buffers()) | dict(layer.named_parameters())
        assert held["packed"].dtype is held["blocks"].dtype is torch.uint8
        count = layer.in_features * layer.out_features
        small = sum(t.nbytes for n, t in held.items() if n not in ("packed", "bias"))
        assert held["packed"].nbytes == count // 2
        assert small <= count // 64 + 4 * (count // 64 // 256 + 1) + 4


def test_the_weights_that_were_taken_out_are_freed() -> None:
    model = tiny_model()
    layer = model.model.layers[0].mlp.up_proj
    gone = weakref.ref(layer.weight.data.untyped_storage())

    quantize_linears(model)

    gc.collect()
    assert gone() is None
    assert layer.weight.nbytes == 0


def test_a_model_of_smollm2s_shapes_takes_at_most_045_of_its_bfloat16_size() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SMOLLM2)).to(torch.bfloat16)
    model.to_empty(device="cpu").tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1)
    full = resident_bytes(model)
    assert full == pytest.approx(2 * 134_515_008, rel=1e-3)

    quantize_linears(model)

    assert resident_bytes(model) <= 0.45 * full
    embedding = model.get_input_embeddings().weight
    assert embedding.dtype is torch.bfloat16
    assert model.get_output_embeddings().weight is embedding


def test_a_gradient_passes_through_and_the_dense_weight_is_not_kept() -> None:
    layer = nn.Linear(64, 32)
    packed = FourBitLinear(layer)
    x = torch.randn(5, 64, requires_grad=True)

    out = packed(x)
    out.square().sum().backward()

    dense = packed.dense()
    assert torch.equal(out, linear(x, dense, layer.bias))
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * out.detach() @ dense, rtol=1e-5, atol=1e-6)
    assert dense.data_ptr() != packed.dense().data_ptr()

    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        packed(x)
    assert all(t.shape != dense.shape for t in saved)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_adapters_learn_on_it_what_they_learn_on_the_dequantised_weights(
    targets: tuple[str, ...],
) -> None:
    model = tiny_model("qwen2")
    other = dequantised(model)
    spec = LoraSpec(rank=4, alpha=8.0, target_modules=targets)
    quantize_linears(model)
    ours, theirs = attach(model, spec, seed=1), attach(other, spec, seed=1)
    with torch.no_grad():
        for lora in (ours, theirs):
            generator = torch.Generator().manual_seed(7)
            for name, parameter in zip(lora.names, lora.parameters, strict=True):
                if ".lora_B." in name:
                    parameter.normal_(0, 0.05, generator=generator)

    left, right = loss(model), loss(other)
    left.backward()
    right.backward()

    assert torch.equal(left, right)
    for a, b in zip(ours.parameters, theirs.parameters, strict=True):
        assert a.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_an_adapter_keeps_no_dense_weight_for_the_backward_pass() -> None:
    model = tiny_model()
    shapes = {
        tuple(sorted(layer.weight.shape)) for layer in quantized.linear_layers(model).values()
    }
    quantize_linears(model)
    attach(model, LoraSpec(rank=3, alpha=8.0), seed=1)
    saved: list[Tensor] = []

    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        loss(model)

    assert saved
    assert not [t.shape for t in saved if tuple(sorted(t.shape)) in shapes]


def test_a_model_is_not_quantised_twice() -> None:
    model = tiny_model()
    quantize_linears(model)
    with pytest.raises(ModelError, match="no linear layer"):
        quantize_linears(model)


def test_single_quantisation_keeps_float32_scales() -> None:
    model = tiny_model()
    quantize_linears(model, double=False)
    layer = model.model.layers[0].mlp.up_proj
    assert layer.blocks.dtype is torch.float32
    assert layer.nested is None
    assert "nf4" in repr(layer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_quantised_model_moves_to_a_gpu() -> None:  # pragma: no cover  # needs a GPU
    model = tiny_model()
    quantize_linears(model)
    expected = logits(model)
    there = model.cuda()(input_ids=IDS.cuda()).logits.cpu()
    assert torch.allclose(there, expected, rtol=1e-4, atol=1e-4)
