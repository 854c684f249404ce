"""Every fault that a copied model folder may have is told by name; an honest copy passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.weights.checks import Parity
from nexa.weights.copy_proof import CopiedWeights, prove_copy
from nexa.weights.folder import write_config, write_weights
from tests.support.tiny import write_tiny_model
from tests.weights.other_family import write_granite

NAME = "model.layers.0.mlp.up_proj.weight"


@dataclass
class Copied:
    """A folder and its copy in another type."""

    source: Path
    folder: Path

    def prove(self, *, foreign: bool = False) -> Parity:
        return prove_copy(self.folder, self.source, dtype=None if foreign else "bfloat16")

    def failures(self, *, foreign: bool = False) -> set[str]:
        """The names of the checks that fail."""
        return {check.name for check in self.prove(foreign=foreign).checks if not check.passed}

    def edit_tensors(self, edit: Callable[[dict[str, Tensor]], object]) -> None:
        path = self.folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    def edit_json(self, name: str, **fields: Any) -> None:
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def copy(source: Path, folder: Path, dtype: str = "bfloat16") -> Copied:
    """An honest copy."""
    weights = CopiedWeights(source)
    shutil.copytree(source, folder)
    write_weights(weights, folder, dtype=dtype)
    config = json.loads((source / "config.json").read_bytes())
    write_config(config, folder, dtype=dtype, tie=weights.tie)
    return Copied(source, folder)


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    return copy(write_tiny_model(tmp_path / "source"), tmp_path / "copy")


@pytest.fixture
def untied(tmp_path: Path) -> Copied:
    return copy(write_tiny_model(tmp_path / "source", tied=False), tmp_path / "copy")


def test_an_honest_copy_passes_whoever_made_it(copied: Copied) -> None:
    copied.prove().require()
    copied.prove(foreign=True).require()
    assert copied.prove().facts["logits_by"] == "nexa"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_types_pass_their_own_limits(tmp_path: Path, dtype: str) -> None:
    made = copy(write_tiny_model(tmp_path / "source"), tmp_path / "copy", dtype)

    prove_copy(made.folder, made.source, dtype=dtype).require()
    told = prove_copy(made.folder, made.source)
    told.require()
    assert told.facts["dtype"] == dtype


def test_one_flipped_bit_is_caught_by_name(copied: Copied) -> None:
    def flip(tensors: dict[str, Tensor]) -> None:
        tensors[NAME].view(torch.int16).view(-1)[7] ^= 1

    copied.edit_tensors(flip)

    assert copied.failures() == {"tensors_exact"} == copied.failures(foreign=True)


def test_a_head_that_was_untied_and_comes_tied_is_caught_by_name(untied: Copied) -> None:
    assert not untied.failures()
    untied.edit_json("config.json", tie_word_embeddings=True)
    assert "tied_embeddings" in untied.failures()

    untied.edit_tensors(lambda tensors: tensors.pop("lm_head.weight"))

    assert {"tied_embeddings", "tensor_names"} <= untied.failures()


def test_embeddings_that_were_tied_and_come_untied_are_caught_by_name(copied: Copied) -> None:
    copied.edit_json("config.json", tie_word_embeddings=False)

    assert {"tied_embeddings", "tensors_fit_config"} <= copied.failures()

    def double(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    copied.edit_tensors(double)
    assert copied.failures() == {"tied_embeddings", "tensor_names"}


def test_a_copy_that_keeps_its_tied_head_is_the_model_if_another_tool_made_it(
    copied: Copied,
) -> None:
    def double(tensors: dict[str, Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    copied.edit_tensors(double)

    assert copied.failures() == {"tensor_names"}
    assert not copied.failures(foreign=True)


@pytest.mark.parametrize(
    ("file", "fields", "failed"),
    [
        ("config.json", {"dtype": "float16"}, {"dtype"}),
        ("config.json", {"max_position_embeddings": 99}, {"config"}),
        ("generation_config.json", {"eos_token_id": 0}, {"end_of_turn"}),
    ],
)
def test_edited_files_are_caught_by_name(
    copied: Copied, file: str, fields: dict[str, Any], failed: set[str]
) -> None:
    copied.edit_json(file, **fields)

    assert copied.failures() == failed


def test_a_rotation_that_was_edited_shows_in_the_logits_too(copied: Copied) -> None:
    rope = {"rope_type": "default", "rope_theta": 3.0}
    copied.edit_json("config.json", rope_parameters=rope)

    before = {check.name: check.value for check in copied.prove().checks}
    assert "config" in copied.failures()
    copied.edit_json("config.json", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    after = {check.name: check.value for check in copied.prove().checks}
    assert before["largest_delta"] > 1.1 * after["largest_delta"]


def test_an_edited_template_is_caught_by_name(copied: Copied) -> None:
    path = copied.folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>", "<|im_start|> "))

    assert copied.failures() == {"template", "conversation"}


def test_an_edited_tokenizer_is_caught_by_name(copied: Copied) -> None:
    path = copied.folder / "tokenizer.json"
    tokenizer = json.loads(path.read_bytes())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:3]
    path.write_text(json.dumps(tokenizer))

    assert "token_ids" in copied.failures()


def test_a_value_that_the_type_does_not_hold_is_caught_by_name(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors[NAME][0, 0] = 1e6
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    made = copy(source, tmp_path / "copy", "float16")

    parity = prove_copy(made.folder, source, dtype="float16")

    failed = {check.name: check.value for check in parity.checks if not check.passed}
    assert failed["weights_are_numbers"] == [NAME]
    assert "tensors_exact" not in failed


def test_a_source_whose_tied_weights_differ_is_refused(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match="brings two that differ"):
        CopiedWeights(source)


def test_a_source_that_keeps_only_the_head_of_a_tied_pair_is_copied_so(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    tensors["model.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})

    weights = CopiedWeights(source)

    assert "lm_head.weight" in weights.names
    assert "model.rotary_emb.inv_freq" not in weights.names


def test_a_family_that_is_not_computed_here_is_computed_by_transformers(tmp_path: Path) -> None:
    made = copy(write_granite(tmp_path / "source"), tmp_path / "copy")

    parity = made.prove()

    parity.require()
    assert parity.facts["logits_by"].startswith("transformers: ")
    made.edit_tensors(lambda tensors: tensors[NAME].mul_(3))
    assert {"tensors_exact"} <= made.failures()
