from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nexa.core.errors import ModelError
from nexa.lm import gguf_rope

LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def metadata(rope: dict[str, Any]) -> dict[str, Any]:
    return {"general.architecture": "llama", **gguf_rope.keys(rope, "llama")}


def test_the_divisors_are_what_transformers_divides_by() -> None:
    config = LlamaConfig(head_dim=64, rope_parameters=LLAMA3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500_000.0 ** -(np.arange(0, 64, 2) / 64)
    found = gguf_rope.llama3_divisors(LLAMA3, theta=500_000.0, head_dim=64)
    np.testing.assert_allclose(found, plain / scaled.numpy(), rtol=1e-5)
    assert (found.min(), found.max()) == (1, 32)


@pytest.mark.parametrize(
    "changes", [{}, {"low_freq_factor": 2.0, "original_max_position_embeddings": 100}]
)
def test_llama3s_numbers_come_back(changes: dict[str, Any]) -> None:
    rope = LLAMA3 | changes
    divisors = gguf_rope.llama3_divisors(rope, theta=500_000.0, head_dim=8)
    told = metadata(rope)
    assert gguf_rope.parameters(told, theta=500_000.0, divisors=divisors) == rope


def test_another_converters_llama3_is_known_by_its_divisors() -> None:
    divisors = gguf_rope.llama3_divisors(LLAMA3, theta=500_000.0, head_dim=128)
    told = {"general.architecture": "llama"}
    assert gguf_rope.parameters(told, theta=500_000.0, divisors=divisors) == LLAMA3
    with pytest.raises(ModelError, match="rotary factors of its own"):
        gguf_rope.parameters(told, theta=500_000.0, divisors=divisors * np.float32(1.01))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
        {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
        },
    ],
)
def test_linear_and_yarn_come_back(rope: dict[str, Any]) -> None:
    assert gguf_rope.parameters(metadata(rope), theta=1e4, divisors=None) == rope


def test_what_is_not_scaled_has_no_parameters() -> None:
    told = metadata({"rope_type": "default"})
    assert told == {"general.architecture": "llama"}
    ones = np.ones(4, np.float32)
    assert gguf_rope.parameters(told, theta=1e4, divisors=ones) is None
    assert gguf_rope.parameters(told, theta=1e4, divisors=None) is None


def test_a_scaling_that_cannot_be_told_is_refused() -> None:
    told = {"general.architecture": "llama", "llama.rope.scaling.type": "longrope"}
    with pytest.raises(ModelError, match="longrope"):
        gguf_rope.parameters(told, theta=1e4, divisors=None)
    told["llama.rope.scaling.type"] = "yarn"  # of how long a text it was, nobody says
    with pytest.raises(ModelError, match="yarn"):
        gguf_rope.parameters(told, theta=1e4, divisors=None)
    with pytest.raises(ModelError, match="'longrope'"):
        gguf_rope.keys({"rope_type": "longrope"}, "llama")
    with pytest.raises(ModelError, match="no factor"):
        gguf_rope.keys({"rope_type": "linear"}, "llama")
    with pytest.raises(ModelError, match="mscale"):
        gguf_rope.keys(
            {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": 8,
                "mscale": 1.0,
            },
            "llama",
        )
