"""Tiny models that carry an adapter, and plain PEFT with the same numbers."""

from __future__ import annotations

import peft
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from nexa.core.records import ModelRef
from nexa.lm.adapters import AttachedLora, LoraSpec, attach

SPEC = LoraSpec(rank=4, alpha=8.0)
KINDS = {
    "lora": SPEC,
    "rslora": LoraSpec(rank=4, alpha=8.0, rslora=True),
    "dora": LoraSpec(rank=4, alpha=8.0, dora=True),
    "dora+rslora": LoraSpec(rank=4, alpha=8.0, dora=True, rslora=True),
    "unlike ranks": LoraSpec(
        rank=4,
        alpha=8.0,
        rslora=True,
        rank_pattern={"q_proj": 2, r"layers\.1\.mlp\..*": 8},
        alpha_pattern={"model.layers.0.self_attn.v_proj": 16.0},
    ),
}
BASE = ModelRef(name="tiny", origin="folder", digest="0" * 64)
IDS = torch.tensor([[5, 17, 40, 8, 99, 23, 11, 7], [9, 9, 31, 250, 4, 60, 2, 3]])


def stirred(model: PreTrainedModel, spec: LoraSpec = SPEC) -> AttachedLora:
    """An adapter that has learned something: B is not zero, no magnitude is its row's length."""
    lora = attach(model, spec, seed=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for adapter in lora.adapters.values():
            adapter.b.normal_(0, 0.05, generator=generator)
            if adapter.magnitude is not None:
                noise = torch.randn(adapter.magnitude.shape, generator=generator)
                adapter.magnitude.mul_(1 + 0.1 * noise)
    return lora


def peft_twin(model: PreTrainedModel, lora: AttachedLora) -> peft.PeftModel:
    """Plain PEFT on a copy of the model, with the same numbers."""
    spec = lora.spec
    config = peft.LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        rank_pattern=dict(spec.rank_pattern),
        alpha_pattern=dict(spec.alpha_pattern),
    )
    twin = peft.get_peft_model(model, config)
    found = peft.set_peft_model_state_dict(twin, lora.state())
    assert not found.unexpected_keys
    return twin


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(input_ids=IDS).logits
    return out


def loss(model: nn.Module) -> Tensor:
    return cross_entropy(model(input_ids=IDS[:, :-1]).logits.flatten(0, 1), IDS[:, 1:].flatten())
