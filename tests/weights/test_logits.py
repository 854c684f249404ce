"""The logits that proofs compare are those of transformers' own module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from nexa.lm.decoder.shape import shape_of
from nexa.lm.folder import read_config
from nexa.weights import logits
from nexa.weights.logits import Model, fits, logits_of, tensor_names
from nexa.weights.tensors import model_weights
from tests.weights.gguf.folders import write_folder

TEXTS = [[5, 6, 7, 8, 9], [20, 21], list(range(30, 57))]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA3}),
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"num_key_value_heads": 1}),
        ("qwen3", {"head_dim": 16}),
    ],
    ids=["llama", "biases", "llama3", "window", "qwen2", "qwen3"],
)
def test_logits_are_those_of_transformers(
    architecture: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "model", architecture, **options)
    weights, shape = model_weights(folder), shape_of(read_config(folder))
    asked: list[str] = []

    def read(name: str) -> list[torch.Tensor]:
        asked.append(name)
        return [weights.tensor(name)]

    (found,) = logits_of([Model(shape, 0)], TEXTS, read)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        wanted = torch.cat([model(torch.tensor([ids])).logits[0] for ids in TEXTS])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert asked[: len(weights.names)] == list(tensor_names(shape))
    assert set(asked) == set(weights.names)
    assert fits(shape, {name: weights.shape(name) for name in weights.names}) == []


def test_an_error_of_one_model_is_raised_and_torch_has_its_threads_back(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    weights, shape = model_weights(folder), shape_of(read_config(folder))
    before = torch.get_num_threads()

    def read(name: str) -> list[torch.Tensor]:
        tensor = weights.tensor(name)
        return [tensor, tensor[:3] if "up_proj" in name else tensor]

    with pytest.raises(RuntimeError, match="size"):
        logits_of([Model(shape, 0), Model(shape, 1)], TEXTS, read)
    assert torch.get_num_threads() == before


def test_models_are_computed_side_by_side_each_with_its_own_weights_and_texts(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path / "model")
    weights, shape = model_weights(folder), shape_of(read_config(folder))

    def read(name: str) -> list[torch.Tensor]:
        return [weights.tensor(name), weights.tensor(name) * 0.5]

    first, second, part = logits_of(
        [Model(shape, 0), Model(shape, 1), Model(shape, 0, texts=1)], TEXTS, read
    )

    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(part, first[: len(TEXTS[0])], atol=1e-5)


def test_weights_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    weights, shape = model_weights(folder), shape_of(read_config(folder))
    shapes = {name: weights.shape(name) for name in weights.names}
    del shapes["model.norm.weight"]
    shapes["model.layers.1.mlp.down_proj.weight"] = (1, 2)

    assert fits(shape, shapes) == ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"]


def test_a_type_that_onednn_does_not_take_is_multiplied_by_torch() -> None:
    x, weight = torch.randn(3, 8), torch.randn(5, 8)

    product = logits._times(x.double(), weight.double())

    assert torch.allclose(product, x.double() @ weight.double().T)
    assert torch.allclose(product.float(), logits._times(x, weight), atol=1e-5)
