from __future__ import annotations

import numpy as np
import pytest
from gguf import MODEL_ARCH, get_tensor_name_map

from nexa.lm import gguf_names
from nexa.lm.gguf_names import FAMILIES
from tests.lm.gguf_models import interleaved
from tests.support.tiny import ARCHITECTURES, tiny_model

ARCHS = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_tensor_of_every_family_has_the_name_that_the_gguf_package_gives(
    model_type: str,
) -> None:
    names = get_tensor_name_map(ARCHS[FAMILIES[model_type].gguf_architecture], 2)
    for name in tiny_model(model_type, tied=False).state_dict():
        stem, kind = name.rsplit(".", 1)
        assert gguf_names.to_gguf(name) == f"{names.get_name(stem)}.{kind}"
        assert gguf_names.to_transformers(f"{names.get_name(stem)}.{kind}") == name


@pytest.mark.parametrize(
    "name", ["blk.0.ffn_gate_exps.weight", "rope_freqs.weight", "output.scale", "blk.weight", "x"]
)
def test_a_name_that_no_llama_has_is_not_guessed(name: str) -> None:
    assert gguf_names.to_transformers(name) is None


@pytest.mark.parametrize(
    "name",
    ["model.layers.0.mlp.experts.weight", "model.layers.0.self_attn.q_proj", "visual.weight"],
)
def test_a_name_that_gguf_does_not_have_is_not_guessed(name: str) -> None:
    assert gguf_names.to_gguf(name) is None


def test_every_family_names_the_class_that_transformers_loads_it_with() -> None:
    for model_type, (_, model_class) in ARCHITECTURES.items():
        assert FAMILIES[model_type].architecture == model_class.__name__


@pytest.mark.parametrize("shape", [(24, 5), (24,)])
def test_rows_go_to_pair_order_and_back_as_one_row_at_a_time_does(shape: tuple[int, ...]) -> None:
    rows = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    pairs = gguf_names.halves_to_pairs(rows, heads=3)
    np.testing.assert_array_equal(pairs, interleaved(rows, heads=3))
    np.testing.assert_array_equal(gguf_names.pairs_to_halves(pairs, heads=3), rows)


def test_only_q_and_k_of_the_llamas_are_rotated() -> None:
    def rotated(name: str, model_type: str) -> int | None:
        return gguf_names.rotated_heads(name, model_type, heads=4, key_heads=2)

    assert rotated("blk.1.attn_q.weight", "llama") == 4
    assert rotated("blk.1.attn_k.bias", "mistral") == 2
    assert rotated("model.layers.1.self_attn.k_proj.weight", "llama") == 2
    assert rotated("blk.1.attn_v.weight", "llama") is None
    assert rotated("blk.1.attn_q_norm.weight", "llama") is None
    assert rotated("output.weight", "llama") is None
    assert rotated("blk.1.attn_q.weight", "qwen2") is None
