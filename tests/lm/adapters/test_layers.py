from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nexa.core.errors import ModelError
from nexa.lm.adapters import LoraSpec, attach, frozen_weight, target_layers
from nexa.lm.quantized import FourBitLinear, quantize_linears
from tests.lm.adapters.twins import SPEC, loss, stirred
from tests.support.tiny import tiny_model


class Halved(nn.Module):
    """A linear layer that keeps half its weight: what a quantised one looks like from outside."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self.register_buffer("kept", layer.weight.detach() / 2)
        self.kept: Tensor
        self.asked = 0

    def dense(self) -> Tensor:
        self.asked += 1
        return self.kept * 2

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dense(), self.bias)


def halve(model: nn.Module) -> list[Halved]:
    """Every linear layer but the head in another form."""
    made = []
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            made.append(Halved(layer))
            model.set_submodule(name, made[-1])
    return made


def test_targets_are_the_ends_of_names() -> None:
    model = tiny_model()
    assert list(target_layers(model, ("layers.1.self_attn.q_proj", "down_proj"))) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]


@pytest.mark.parametrize(("target", "fix"), [("q_porj", "q_proj"), ("zzz", "all-linear")])
def test_a_target_that_fits_nothing_is_refused_with_the_nearest_name(target: str, fix: str) -> None:
    for targets in (target, (target,)):
        with pytest.raises(ModelError, match=target) as caught:
            attach(tiny_model(), LoraSpec(target_modules=targets), seed=0)
        assert fix in str(caught.value.fix)


def test_one_name_alone_is_a_pattern_of_whole_names_as_in_peft() -> None:
    with pytest.raises(ModelError, match="no linear layer is named 'q_proj'") as caught:
        target_layers(tiny_model(), "q_proj")
    assert caught.value.fix == "target_modules: [q_proj]"


def test_a_pattern_fits_whole_names() -> None:
    found = target_layers(tiny_model(), r".*\.(q|v)_proj")
    assert [name.rsplit(".", 1)[-1] for name in found] == ["q_proj", "v_proj"] * 2


@pytest.mark.parametrize(
    ("pattern", "named"), [(r".*\.mlp", "layers.0.mlp"), (".*proj|lm_head", "lm_head")]
)
def test_a_pattern_that_fits_other_modules_too_is_refused(pattern: str, named: str) -> None:
    with pytest.raises(ModelError, match="cannot carry an adapter") as caught:
        target_layers(tiny_model(), pattern)
    assert named in str(caught.value.found)


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ModelError, match="no regular expression"):
        target_layers(tiny_model(), "(q_proj")


@pytest.mark.parametrize("dora", [False, True])
def test_a_layer_that_keeps_its_weight_in_another_form_is_trained_alike(dora: bool) -> None:
    spec = LoraSpec(rank=4, alpha=8.0, dora=dora)
    model, other = tiny_model("qwen2"), tiny_model("qwen2")
    layers = halve(other)
    lora, twin = attach(model, spec, seed=5), attach(other, spec, seed=5)
    assert len(layers) == len(twin.adapters) == 14
    loss(model).backward()
    loss(other).backward()
    for ours, theirs in zip(lora.parameters, twin.parameters, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dora", [False, True])
def test_a_layer_in_four_bits_is_trained_as_its_dequantised_twin(dora: bool) -> None:
    spec = LoraSpec(rank=4, alpha=8.0, dropout=0.2, dora=dora)
    model, other = tiny_model("qwen2"), tiny_model("qwen2")
    quantize_linears(other)
    with torch.no_grad():
        for name, layer in target_layers(other, "all-linear").items():
            assert isinstance(layer, FourBitLinear)
            model.get_submodule(name).weight.copy_(layer.dense())
    lora, twin = stirred(model, spec), stirred(other, spec)
    for one in (model, other):
        one.train()
        torch.manual_seed(2)
        loss(one).backward()
    for name, ours, theirs in zip(lora.names, lora.parameters, twin.parameters, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad - theirs.grad).norm() <= 1e-5 * ours.grad.norm(), name


def test_no_dense_copy_of_a_weight_waits_for_the_backward_pass() -> None:
    model = tiny_model()
    layers = halve(model)
    attach(model, SPEC, seed=0)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    layer = layers[-1]
    x = torch.randn(3, layer.in_features, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = layer(x)
    assert layer.asked == 1
    assert sizes
    assert max(sizes) < layer.in_features * layer.out_features
    out.sum().backward()
    assert layer.asked == 2


def test_the_weight_of_a_plain_layer_is_its_own() -> None:
    layer = nn.Linear(3, 2)
    assert frozen_weight(layer) is layer.weight
