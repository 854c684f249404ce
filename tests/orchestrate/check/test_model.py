"""A model's vocabulary, the numbers in its weights, and what of it would be trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexa.core.errors import ModelError, NothingTrained, VocabularyError, WeightsError
from nexa.orchestrate.check import model
from tests.orchestrate.check.made import flight


@pytest.fixture
def own_model(tmp_path: Path, tiny_llama: Path) -> Path:
    """A copy of the tiny model, to break."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, **changes: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | changes, path, metadata={"format": "pt"})


def test_a_whole_model_is_told_by_its_size(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama)
    assert model.files(made).startswith("tiny-llama: LlamaForCausalLM")
    assert made.facts["parameters"] == 28832
    assert model.vocabulary(made) == "300 tokens, 320 rows in the embedding"
    assert model.weights(made) == "20 tensors, all finite"


@pytest.mark.parametrize("ids", [900, [2, 900]])
def test_a_special_token_beyond_the_embedding_is_named(
    tmp_path: Path, own_model: Path, ids: int | list[int]
) -> None:
    edit_config(own_model, eos_token_id=ids)
    with pytest.raises(VocabularyError, match="names a token") as caught:
        model.vocabulary(flight(tmp_path, own_model))
    assert "eos_token_id: 900" in str(caught.value.found)


def test_every_kind_of_number_is_looked_at_piece_by_piece(
    tmp_path: Path, own_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "CHUNK_VALUES", 64)  # so that a tensor is many pieces
    edit_weights(
        own_model,
        whole=torch.tensor([1, 2]),
        alone=torch.tensor(torch.inf),
        small=torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
        late=torch.cat([torch.zeros(500), torch.tensor([torch.nan, -torch.inf])]),
    )
    with pytest.raises(WeightsError, match="2 of 24 tensors") as caught:
        model.weights(flight(tmp_path, own_model))
    assert caught.value.found == "alone (1 values), late (2 values)"


def test_many_broken_tensors_are_counted_and_three_are_named(
    tmp_path: Path, own_model: Path
) -> None:
    edit_weights(own_model, **{f"x{i}": torch.tensor([torch.nan]) for i in range(5)})
    with pytest.raises(WeightsError) as caught:
        model.weights(flight(tmp_path, own_model))
    assert str(caught.value.found).endswith("x2 (1 values) and 2 more")


def test_a_torn_weight_file_is_told(tmp_path: Path, own_model: Path) -> None:
    made = flight(tmp_path, own_model)
    assert made.base.name == "model"
    path = own_model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot read"):
        model.weights(made)


def test_what_is_trained_is_counted_without_loading_a_weight(
    tmp_path: Path, tiny_llama: Path
) -> None:
    made = flight(tmp_path, tiny_llama)
    assert model.trainable(made).startswith("4,096 parameters on 14 layers, 14")
    full = flight(tmp_path, tiny_llama, lora=None)
    assert model.trainable(full) == "28,832 parameters, 100.0% of the model"
    assert full.facts["trainable_parameters"] == 28832


def test_targets_that_fit_no_layer_train_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, lora={"target_modules": ["q_prj"]})
    with pytest.raises(NothingTrained) as caught:
        model.trainable(made)
    assert "q_proj" in str(caught.value.fix)


def test_no_targets_at_all_train_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    made = flight(tmp_path, tiny_llama, lora={"target_modules": []})
    with pytest.raises(NothingTrained, match="no parameter that could be") as caught:
        model.trainable(made)
    assert caught.value.fix == "lora.target_modules: all-linear"
