from __future__ import annotations

from typing import Any

import pytest

from nexa.lm.decoder.shape import DecoderShape, UnsupportedDecoder, shape_of
from tests.lm.decoder.references import CASES, config_of, plain


def config(case: str = "llama", **changes: Any) -> dict[str, Any]:
    return {**config_of(plain(**CASES[case])), **changes}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("llama", {"tied": True, "head_width": 8, "window": 0, "qkv_bias": False}),
        ("llama with biases", {"qkv_bias": True, "out_bias": True, "mlp_bias": True}),
        ("llama with wide heads", {"head_width": 12, "key_heads": 4}),
        ("mistral with a window", {"window": 6, "qkv_bias": False}),
        ("qwen2", {"qkv_bias": True, "out_bias": False, "head_norms": False, "tied": True}),
        ("qwen3", {"head_norms": True, "head_width": 16, "tied": False}),
    ],
)
def test_a_config_tells_sizes_and_switches(case: str, expected: dict[str, Any]) -> None:
    shape = shape_of(config(case))
    assert (shape.layers, shape.width, shape.mlp_width, shape.heads) == (3, 32, 48, 4)
    assert {name: getattr(shape, name) for name in expected} == expected


def test_every_layer_of_a_qwen_may_have_the_window() -> None:
    kinds = {"layer_types": ["sliding_attention"] * 3, "use_sliding_window": True}
    assert shape_of(config("qwen2", sliding_window=9, **kinds)).window == 9
    assert shape_of(config("qwen2", sliding_window=9, layer_types=None)).window == 0


def test_heads_without_key_heads_of_their_own_have_each_its_own() -> None:
    told = config("llama", num_key_value_heads=None, head_dim=None)
    assert shape_of(told).key_heads == 4
    assert shape_of(told).head_width == 8


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("llama", {"model_type": "gpt2"}, "'gpt2'"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act: gelu"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout: 0.1"),
        ("llama", {"pretraining_tp": 2}, "pretraining_tp: 2"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        (
            "qwen2",
            {
                "use_sliding_window": True,
                "sliding_window": 4,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
            "full_attention, sliding_attention",
        ),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 4, "layer_types": None},
            "by max_window_layers",
        ),
        ("qwen3", {"layer_types": ["sliding_attention"] * 3}, "does not say how far"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    case: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedDecoder) as caught:
        shape_of(config(case, **changes))
    assert named in f"{caught.value.what} {caught.value.found}"


@pytest.mark.parametrize(
    ("case", "left_out"),
    [("llama", "rms_norm_eps"), ("mistral", "sliding_window"), ("qwen3", "head_dim")],
)
def test_what_a_default_would_have_to_stand_for_is_refused(case: str, left_out: str) -> None:
    told = config(case)
    del told[left_out]
    with pytest.raises(UnsupportedDecoder) as caught:
        shape_of(told)
    assert caught.value.found == f"missing: {left_out}"


def test_shapes_of_equal_configs_are_equal() -> None:
    assert isinstance(shape_of(config()), DecoderShape)
    assert shape_of(config()) == shape_of(config())
