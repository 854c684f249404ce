from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForCausalLM, PreTrainedModel

from nexa.core.errors import ModelError
from nexa.core.records import ModelRef
from nexa.lm import adapters
from nexa.lm.adapters import CONFIG, WEIGHTS, AttachedLora, LoraSpec, attach, delta
from tests.support.tiny import ARCHITECTURES, tiny_model

# PEFT 0.21 asks transformers for a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

SPEC = LoraSpec(rank=4, alpha=8.0)
BASE = ModelRef(name="tiny", origin="folder", digest="0" * 64)
IDS = torch.tensor([[5, 17, 40, 8, 99, 23, 11, 7], [9, 9, 31, 250, 4, 60, 2, 3]])


def stirred(model: PreTrainedModel, spec: LoraSpec = SPEC) -> AttachedLora:
    """An adapter whose B is not zero."""
    lora = attach(model, spec, seed=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for adapter in lora.adapters.values():
            adapter.b.normal_(0, 0.05, generator=generator)
    return lora


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(input_ids=IDS).logits
    return out


def loss(model: nn.Module) -> Tensor:
    return cross_entropy(model(input_ids=IDS[:, :-1]).logits.flatten(0, 1), IDS[:, 1:].flatten())


def peft_twin(model: PreTrainedModel, lora: AttachedLora) -> peft.PeftModel:
    """Plain PEFT on a copy of the model, with the same matrices."""
    config = peft.LoraConfig(
        r=lora.spec.rank,
        lora_alpha=lora.spec.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    twin = peft.get_peft_model(model, config)
    peft.set_peft_model_state_dict(twin, lora.state())
    return twin


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_loss_and_every_gradient_equal_plain_peft(architecture: str, tied: bool) -> None:
    model = tiny_model(architecture, tied=tied)
    other = copy.deepcopy(model)
    lora = stirred(model)
    twin = peft_twin(other, lora)
    ours, theirs = loss(model), loss(twin)
    assert math.isclose(ours.item(), theirs.item(), rel_tol=1e-6)
    ours.backward()
    theirs.backward()
    expected = {
        name.replace(".default", ""): p.grad
        for name, p in twin.named_parameters()
        if "lora" in name
    }
    assert len(expected) == 2 * len(lora.adapters) == 2 * 14
    for name, adapter in lora.adapters.items():
        for side, parameter in (("A", adapter.a), ("B", adapter.b)):
            grad = expected[f"{adapters.PREFIX}{name}.lora_{side}.weight"]
            assert grad is not None
            assert parameter.grad is not None
            assert (parameter.grad - grad).norm() <= 1e-5 * grad.norm(), (name, side)


def test_a_fresh_adapter_changes_nothing_but_its_b_can_learn() -> None:
    model = tiny_model()
    before = logits(model)
    lora = attach(model, SPEC, seed=0)
    assert torch.allclose(logits(model), before, atol=1e-6)
    loss(model).backward()
    assert all(a.b.grad is not None and a.b.grad.any() for a in lora.adapters.values())


def test_a_detached_model_is_exactly_what_it_was() -> None:
    model = tiny_model()
    model.get_input_embeddings().requires_grad_(False)
    names = list(model.state_dict())
    trained = {n: p.requires_grad for n, p in model.named_parameters()}
    before = logits(model)
    lora = stirred(model)
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


def test_targets_are_the_ends_of_names() -> None:
    model = tiny_model()
    spec = LoraSpec(4, 8.0, target_modules=("layers.1.self_attn.q_proj", "down_proj"))
    assert list(attach(model, spec, seed=0).adapters) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]


@pytest.mark.parametrize(("target", "fix"), [("q_porj", "q_proj"), ("zzz", "all-linear")])
def test_a_target_that_fits_nothing_is_refused_with_the_nearest_name(target: str, fix: str) -> None:
    with pytest.raises(ModelError, match=target) as caught:
        attach(tiny_model(), LoraSpec(target_modules=(target,)), seed=0)
    assert fix in str(caught.value.fix)


def test_dropout_drops_the_adapters_input_and_only_in_training() -> None:
    layer = nn.Linear(6, 5)
    model = tiny_model()
    spec = LoraSpec(rank=3, alpha=6.0, dropout=0.5)
    adapter = adapters.Adapter(
        layer, nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(5, 3))
    )
    lora = AttachedLora(model, spec, {"layer": adapter})
    x = torch.randn(2, 4, 6, requires_grad=True)

    def slow(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        dropped = nn.functional.dropout(x, 0.5, training=layer.training)
        low = linear(dropped, adapter.a)
        return linear(x, layer.weight, layer.bias) + 2 * linear(low, adapter.b)

    inputs = (x, adapter.a, adapter.b)
    for training in (True, False):
        layer.train(training)
        expected = slow(x)
        theirs = torch.autograd.grad(expected.square().sum(), inputs)
        lora._put_on()
        torch.manual_seed(0)
        out = layer(x)
        ours = torch.autograd.grad(out.square().sum(), inputs)
        lora._take_off()
        assert torch.allclose(out, expected, atol=1e-5)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_small_update_survives_bfloat16() -> None:
    """Added after rounding, an update below half a unit in the last place is lost every time."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False).bfloat16()
    layer.weight.requires_grad_(False)
    adapter = adapters.Adapter(
        layer, nn.Parameter(torch.randn(4, 64)), nn.Parameter(torch.full((64, 4), 2e-4))
    )
    lora = AttachedLora(tiny_model(), LoraSpec(rank=4, alpha=4.0), {"layer": adapter})
    x = torch.randn(4096, 64).bfloat16()
    base = layer(x).float()
    update = linear(linear(x, adapter.a.bfloat16()), adapter.b.bfloat16())
    exact = linear(x.float(), layer.weight.float()) + update.float()
    lora._put_on()
    inside = (layer(x).float() - exact).mean(0).abs().mean()
    after = ((base.bfloat16() + update).float() - exact).mean(0).abs().mean()
    assert inside <= after
    assert layer(x).dtype == torch.bfloat16


def test_float32_inputs_of_a_bfloat16_layer_get_float32_gradients() -> None:
    model = tiny_model().bfloat16()
    lora = stirred(model)
    layer = next(iter(lora.adapters.values())).layer
    x = torch.randn(3, layer.in_features, requires_grad=True)
    out = layer(x)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


def test_delta_is_what_the_adapter_adds_to_the_weight() -> None:
    model = tiny_model()
    lora = stirred(model)
    tuned = logits(model)
    lora.detach()
    with torch.no_grad():
        for adapter in lora.adapters.values():
            adapter.layer.weight += delta(adapter.a, adapter.b, SPEC.scale)
    assert torch.allclose(logits(model), tuned, atol=1e-5)


# -- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_plain_peft_loads_what_is_written(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    lora = stirred(model)
    tuned = logits(model)
    adapters.write(tmp_path, lora.state(), SPEC, BASE)
    lora.detach()
    plain = peft.PeftModel.from_pretrained(model, tmp_path)
    assert torch.allclose(logits(plain), tuned, atol=1e-5)


def test_what_plain_peft_wrote_is_loaded(tmp_path: Path) -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    lora = stirred(model)
    twin = peft_twin(other, lora)
    lora.detach()
    twin.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = adapters.load(model, tmp_path)
    assert torch.allclose(logits(model), logits(twin), atol=1e-5)
    assert not any(p.requires_grad for p in loaded.parameters)
    loaded.detach()
    assert all(p.requires_grad for p in model.parameters())


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    spec = LoraSpec(4, 8.0, 0.1, ("q_proj", "layers.1.mlp.down_proj"))
    lora = stirred(tiny_model(), spec)
    adapters.write(tmp_path, lora.state(), spec, BASE)
    read, tensors = adapters.read(tmp_path)
    assert read.target_modules == ("layers.1.mlp.down_proj", "q_proj")
    assert (read.rank, read.alpha, read.dropout) == (4, 8.0, 0.1)
    assert tensors.keys() == lora.state().keys()
    assert all(torch.equal(tensors[name], t) for name, t in lora.state().items())


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    state = stirred(tiny_model()).state()
    adapters.write(tmp_path / "a", state, SPEC, BASE)
    adapters.write(tmp_path / "b", dict(reversed(state.items())), SPEC, BASE)
    for file in (WEIGHTS, CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="a pickle"):
        adapters.read(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter_model"):
        adapters.read(tmp_path)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    adapters.write(tmp_path, stirred(tiny_model()).state(), SPEC, BASE)
    return tmp_path


def change(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **settings}))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(
    written: Path, settings: dict[str, Any], named: str
) -> None:
    change(written, **settings)
    with pytest.raises(ModelError, match=named):
        adapters.read(written)


def test_settings_that_are_only_empty_another_way_are_plain(written: Path) -> None:
    change(written, modules_to_save=[], rank_pattern=None)
    adapters.read(written)


@pytest.mark.parametrize(("given", "read"), [("all-linear", "all-linear"), ("q_proj", ("q_proj",))])
def test_targets_may_be_one_word(written: Path, given: str, read: object) -> None:
    change(written, target_modules=given)
    assert adapters.read(written)[0].target_modules == read


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_config_is_refused(written: Path, text: str) -> None:
    (written / CONFIG).write_text(text)
    with pytest.raises(ModelError, match="cannot read the adapter"):
        adapters.read(written)


def test_broken_weights_are_refused(written: Path) -> None:
    (written / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="cannot read the adapter"):
        adapters.read(written)


def test_half_an_adapter_is_refused(written: Path) -> None:
    tensors = load_file(written / WEIGHTS)
    tensors.pop(next(name for name in tensors if ".lora_B." in name))
    save_file(tensors, written / WEIGHTS)
    with pytest.raises(ModelError, match="lora_B"):
        adapters.read(written)


def test_an_adapter_without_tensors_is_refused(written: Path) -> None:
    save_file({}, written / WEIGHTS)
    with pytest.raises(ModelError, match="no tensors"):
        adapters.read(written)


def test_another_models_adapter_is_refused(written: Path, tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.layers[1].mlp.down_proj = nn.Linear(64, 40)
    with pytest.raises(ModelError, match="does not fit this model"):
        adapters.load(model, written)
