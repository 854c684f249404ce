from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from nexa.weights.folder import (
    tied_names,
    write_config,
    write_generation_config,
    write_weights,
)
from nexa.weights.merging import MergedWeights, TrainedWeights
from nexa.weights.quantised import DequantisedWeights
from nexa.weights.tensors import Weights, model_weights
from tests.support.tiny import write_tiny_model


def written(base: Path, out: Path, stop_ids: tuple[int, ...]) -> dict[str, object]:
    write_generation_config(base, out, stop_ids=stop_ids)
    found = json.loads((out / "generation_config.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_generation_keeps_what_the_base_says_and_stops_at_the_end_of_turn(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / "generation_config.json").write_text('{"eos_token_id": [0], "temperature": 0.7}')

    assert written(base, out, (2, 0)) == {"eos_token_id": [0, 2], "temperature": 0.7}


def test_without_a_generation_config_the_model_config_names_the_tokens(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": null, "hidden_size": 8}')

    assert written(base, out, (2,)) == {"bos_token_id": 1, "eos_token_id": 2}


def test_the_config_says_the_stored_type_and_drops_what_is_stale(tmp_path: Path) -> None:
    config = {"torch_dtype": "float32", "quantization_config": {}, "hidden_size": 8}

    write_config(config, tmp_path, dtype="bfloat16", tie=False)

    assert json.loads((tmp_path / "config.json").read_bytes()) == {
        "hidden_size": 8,
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
    }


def test_a_model_without_tied_embeddings_ties_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    assert tied_names(write_tiny_model(tmp_path / "untied", tied=False)) == {}
    assert tied_names(tiny_llama) == {"lm_head.weight": "model.embed_tokens.weight"}


class InMemory:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.tensors))

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_files_have_the_bytes_that_the_safetensors_package_writes_shard_by_shard(
    tmp_path: Path, dtype: str
) -> None:
    kind: torch.dtype = getattr(torch, dtype)
    tensors = {name: torch.randn(size, 2) for name, size in (("z", 4), ("b", 3), ("a.1", 8))}
    rounded = {name: tensor.to(kind) for name, tensor in tensors.items()}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    write_weights(InMemory(tensors), tmp_path / "one", dtype=dtype)
    write_weights(InMemory(tensors), tmp_path / "two", dtype=dtype, limit_bytes=16 * kind.itemsize)

    whole = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert whole == save(rounded, metadata={"format": "pt"})
    for number, names in enumerate([["a.1"], ["b", "z"]], 1):
        part = tmp_path / "two" / f"model-0000{number}-of-00002.safetensors"
        wanted = save({name: rounded[name] for name in names}, metadata={"format": "pt"})
        assert part.read_bytes() == wanted


def test_every_kind_of_weights_tells_the_shapes_of_its_tensors(
    tmp_path: Path, tiny_llama: Path
) -> None:
    tied = tied_names(tiny_llama)
    base = model_weights(tiny_llama)
    untied = write_tiny_model(tmp_path / "untied", tied=False)
    kinds: list[Weights] = [
        base,
        MergedWeights(base, {}, tied=tied),
        TrainedWeights(base, base, tied=tied),
        TrainedWeights(model_weights(untied), base, tied=tied),
        DequantisedWeights(base, frozenset(), torch.bfloat16, double=False),
    ]
    for weights in kinds:
        for name in weights.names:
            assert weights.shape(name) == tuple(weights.tensor(name).shape)
    assert kinds[1].shape("lm_head.weight") == (320, 32)
