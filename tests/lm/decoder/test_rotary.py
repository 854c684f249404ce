from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from nexa.lm.decoder.rotary import UnsupportedDecoder, rotary_of
from tests.lm.decoder.references import LINEAR, LLAMA3, SMALL

OLD_LLAMA3 = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"rope_theta": 5e5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}},
        {"rope_parameters": LINEAR},
        {"rope_parameters": LLAMA3},
        {"rope_scaling": OLD_LLAMA3, "rope_theta": 5e5},
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
    ],
)
def test_frequencies_equal_those_of_transformers(told: dict[str, Any]) -> None:
    config = {**SMALL, "head_dim": 16, **told}
    theirs = LlamaRotaryEmbedding(LlamaConfig(**config)).inv_freq
    assert torch.allclose(rotary_of(config).frequencies(16), theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"partial_rotary_factor": 0.5}, "whole heads"),
    ],
)
def test_other_rotations_are_refused_by_name(told: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedDecoder, match=named):
        rotary_of({**SMALL, **told})
