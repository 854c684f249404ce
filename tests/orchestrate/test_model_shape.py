from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import IntegrityError, ModelError
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate.model_shape import shape_of, stored_dtype
from tests.support.tiny import write_tiny_model


def described(folder: Path, config: dict[str, Any]) -> ModelFiles:
    (folder / "config.json").write_text(json.dumps(config))
    return ModelFiles(
        reference="m", name="m", origin="folder", folder=folder, files={"config.json": "0" * 64}
    )


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_from_the_files_as_torch_counts_them(
    tmp_path: Path, tied: bool
) -> None:
    folder = write_tiny_model(tmp_path / "m", tied=tied)
    shape = shape_of(resolve(str(folder)))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert shape.parameters == model.num_parameters()
    assert (shape.architecture, shape.hidden_size) == ("LlamaForCausalLM", 32)
    assert (shape.num_layers, shape.vocab_size) == (2, 320)


def test_older_names_of_the_sizes_are_known(tmp_path: Path) -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "n_embd": 8, "n_layer": 2, "vocab_size": 9}
    shape = shape_of(described(tmp_path, config))
    assert (shape.hidden_size, shape.num_layers, shape.vocab_size) == (8, 2, 9)


@pytest.mark.parametrize(
    "architectures",
    [["BertForMaskedLM"], [], None, "LlamaForCausalLM", ["LlavaForConditionalGeneration"]],
)
def test_a_model_that_does_not_continue_text_is_refused(
    tmp_path: Path, architectures: object
) -> None:
    with pytest.raises(ModelError, match="not a causal language model"):
        shape_of(described(tmp_path, {"architectures": architectures}))


def test_a_config_without_a_size_is_refused_by_its_name(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": "2"}
    with pytest.raises(ModelError, match="no num_hidden_layers"):
        shape_of(described(tmp_path, config))


def test_a_broken_weight_file_is_named(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "vocab_size": 9,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    files = {"config.json": "0" * 64, "model.safetensors": "0" * 64}
    model = ModelFiles(reference="m", name="m", origin="folder", folder=tmp_path, files=files)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        shape_of(model)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (torch.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
        (torch.float32, "float32"),
        (torch.float64, "bfloat16"),
    ],
)
def test_a_model_s_type_is_what_most_of_its_numbers_have(
    tmp_path: Path, kind: torch.dtype, dtype: str
) -> None:
    tensors = {"large": torch.zeros(64, dtype=kind), "small": torch.zeros(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    model = replace(described(tmp_path, {}), files={"model.safetensors": "0" * 64})
    assert stored_dtype(model) == dtype
    assert stored_dtype(described(tmp_path, {})) == "bfloat16"
