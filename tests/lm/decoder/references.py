"""Tiny random models of transformers, and decoders of the same weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from nexa.lm.decoder.linear import Pair
from nexa.lm.decoder.model import Decoder, projections
from nexa.lm.decoder.shape import shape_of
from nexa.lm.decoder.weights import fill

RANK, SCALE = 4, 2.0
SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama with scaled rotation": {"model_type": "llama", "rope_parameters": LLAMA3},
    "llama with stretched positions": {"model_type": "llama", "rope_parameters": LINEAR},
    "llama with wide heads": {"model_type": "llama", "head_dim": 12, "num_key_value_heads": 4},
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral with a window": {"model_type": "mistral", "sliding_window": 6},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2 untied": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "qwen3 tied with biases": {
        "model_type": "qwen3",
        "head_dim": 8,
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
}


def plain(model_type: str = "llama", **changes: Any) -> PreTrainedModel:
    """A model of transformers in float32, with weights so large that every gradient counts."""
    config = AutoConfig.for_model(model_type, **{**SMALL, **changes})
    torch.manual_seed(1)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = parameter.ndim == 1 and not name.endswith("bias")
            parameter.normal_(1.0 if is_scale else 0.0, 0.15)
    return model


def config_of(model: PreTrainedModel) -> dict[str, Any]:
    """What its config.json says."""
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return config


def decoder_of(
    model: PreTrainedModel,
    pairs: Mapping[str, Pair] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Decoder:
    """A decoder of the same weights, with adapters."""
    ranks = {name: len(pair.a) for name, pair in (pairs or {}).items()}
    decoder = Decoder(shape_of(config_of(model)), dtype=dtype, ranks=ranks)
    fill(decoder, model.state_dict().items(), "tiny")
    decoder.carry(pairs or {})
    return decoder


def random_pairs(model: PreTrainedModel, targets: tuple[str, ...] = ()) -> dict[str, Pair]:
    """An adapter that is not zero, on all projections or those that end in `targets`."""
    generator = torch.Generator().manual_seed(5)
    pairs = {}
    for name in projections(shape_of(config_of(model))):
        if not targets or name.rpartition(".")[2] in targets:
            out, width = model.get_submodule(name).weight.shape
            a = torch.empty(RANK, width).normal_(0, 0.2, generator=generator)
            b = torch.empty(out, RANK).normal_(0, 0.1, generator=generator)
            pairs[name] = Pair(nn.Parameter(a), nn.Parameter(b), SCALE)
    return pairs


def merge(model: PreTrainedModel, pairs: Mapping[str, Pair]) -> None:
    """Add `s B A` to each weight: the model that the decoder with these adapters is."""
    with torch.no_grad():
        for name, pair in pairs.items():
            model.get_submodule(name).weight += pair.scale * pair.b @ pair.a


def pair_gradients(model: PreTrainedModel, pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """The adapters' gradients by the chain rule, from those of the merged model's weights."""
    grads = {}
    for name, pair in pairs.items():
        whole = model.get_submodule(name).weight.grad
        assert whole is not None
        grads[f"{name} A"] = (pair.scale * pair.b.T @ whole).detach()
        grads[f"{name} B"] = (pair.scale * whole @ pair.a.T).detach()
    return grads


def own_gradients(pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """The gradients that a backward pass left, taken away."""
    grads = {}
    for name, pair in pairs.items():
        for side, parameter in (("A", pair.a), ("B", pair.b)):
            assert parameter.grad is not None
            grads[f"{name} {side}"], parameter.grad = parameter.grad, None
    return grads
