"""Nexa's adapters are PEFT's: the same losses and gradients, and files that each reads."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nexa.lm import adapters
from nexa.lm.adapters import WEIGHTS, LoraSpec
from tests.lm.adapters.twins import BASE, KINDS, logits, loss, peft_twin, stirred
from tests.support.tiny import ARCHITECTURES, tiny_model

OTHERS = sorted(KINDS.keys() - {"lora"})

# PEFT 0.21 asks transformers for a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


def gradients(twin: peft.PeftModel) -> dict[str, Tensor | None]:
    """PEFT's gradients under the names of its files."""
    return {
        name.replace(".default", "").replace("_vector.weight", "_vector"): p.grad
        for name, p in twin.named_parameters()
        if "lora" in name
    }


def both_losses(model: nn.Module, twin: nn.Module) -> tuple[Tensor, Tensor]:
    """Of both, with the same random numbers for dropout."""
    losses = []
    for one in (model, twin):
        torch.manual_seed(11)
        losses.append(loss(one))
        losses[-1].backward()
    return losses[0], losses[1]


def check_equal(architecture: str, spec: LoraSpec, *, tied: bool = True) -> None:
    model = tiny_model(architecture, tied=tied)
    other = copy.deepcopy(model)
    lora = stirred(model, spec)
    twin = peft_twin(other, lora)
    model.train()
    twin.train()
    ours, theirs = both_losses(model, twin)
    assert math.isclose(ours.item(), theirs.item(), rel_tol=1e-6)
    expected = gradients(twin)
    assert sorted(expected) == sorted(lora.names)
    assert len(expected) == (3 if spec.dora else 2) * 14
    for name, parameter in zip(lora.names, lora.parameters, strict=True):
        grad = expected[name]
        assert grad is not None
        assert parameter.grad is not None
        assert (parameter.grad - grad).norm() <= 1e-5 * grad.norm(), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_loss_and_every_gradient_equal_plain_peft(architecture: str, tied: bool) -> None:
    check_equal(architecture, KINDS["lora"], tied=tied)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("kind", OTHERS)
def test_so_do_those_of_every_other_kind(kind: str, architecture: str) -> None:
    check_equal(architecture, KINDS[kind])


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2"])
def test_with_dropout_they_equal_plain_pefts_too(architecture: str, dora: bool) -> None:
    check_equal(architecture, LoraSpec(rank=4, alpha=8.0, dropout=0.3, dora=dora))


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [(name, "lora") for name in sorted(ARCHITECTURES)] + [("qwen2", kind) for kind in OTHERS],
)
def test_plain_peft_loads_what_is_written(architecture: str, kind: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    lora = stirred(model, KINDS[kind])
    tuned = logits(model)
    adapters.write(tmp_path, lora.state(), lora.spec, BASE)
    lora.detach()
    plain = peft.PeftModel.from_pretrained(model, tmp_path)
    assert torch.allclose(logits(plain), tuned, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_plain_peft_wrote_is_loaded(kind: str, tmp_path: Path) -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    lora = stirred(model, KINDS[kind])
    twin = peft_twin(other, lora)
    lora.detach()
    twin.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = adapters.load(model, tmp_path)
    assert torch.allclose(logits(model), logits(twin), atol=1e-5)
    assert not any(p.requires_grad for p in loaded.parameters)
    loaded.detach()
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_both_write_the_same_tensors_by_the_same_names(kind: str, tmp_path: Path) -> None:
    model = tiny_model()
    other = copy.deepcopy(model)
    lora = stirred(model, KINDS[kind])
    peft_twin(other, lora).save_pretrained(tmp_path)
    state = lora.state()
    with safe_open(tmp_path / WEIGHTS, "pt") as theirs:
        assert sorted(theirs.keys()) == sorted(state)
        assert all(torch.equal(theirs.get_tensor(name), state[name]) for name in state)


def test_a_pattern_that_peft_was_given_finds_the_same_layers() -> None:
    pattern = r".*layers\.1\.(self_attn\.[qv]_proj|mlp\.down_proj)"
    ours = adapters.target_layers(tiny_model(), pattern)
    config = peft.LoraConfig(r=2, target_modules=pattern, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(tiny_model(), config).targeted_module_names
    assert list(ours) == sorted(theirs, key=list(dict(tiny_model().named_modules())).index)
    assert len(ours) == 3


def test_a_pattern_is_written_as_peft_reads_it(tmp_path: Path) -> None:
    model = tiny_model()
    lora = stirred(model, LoraSpec(4, 8.0, target_modules=r"model\.layers\.\d\.mlp\.up_proj"))
    tuned = logits(model)
    adapters.write(tmp_path, lora.state(), lora.spec, BASE)
    lora.detach()
    plain = peft.PeftModel.from_pretrained(model, tmp_path)
    assert len(plain.targeted_module_names) == 2
    assert torch.allclose(logits(plain), tuned, atol=1e-5)
