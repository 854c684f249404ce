from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nexa.core.errors import ModelError
from nexa.weights.tensors import StoredWeights, model_weights, shards


@pytest.fixture
def stored(tmp_path: Path) -> StoredWeights:
    save_file({"a": torch.ones(2, 3).bfloat16()}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(4)}, tmp_path / "model-00002-of-00002.safetensors")
    save_file({"c": torch.zeros(4)}, tmp_path / "adapter_model.safetensors")
    return model_weights(tmp_path)


def test_shards_are_read_as_one_model_and_an_adapter_is_no_part_of_it(
    stored: StoredWeights,
) -> None:
    assert stored.names == ("a", "b")
    assert stored.tensor("a").dtype is torch.float32
    assert stored.stored("a").dtype is torch.bfloat16


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        model_weights(tmp_path)


def test_groups_stay_below_the_limit_and_lose_nothing(stored: StoredWeights) -> None:
    groups = list(shards(stored, dtype=torch.float32, limit_bytes=20))

    assert [sorted(group) for group in groups] == [["a"], ["b"]]
    assert [sorted(g) for g in shards(stored, dtype=torch.float32, limit_bytes=99)] == [["a", "b"]]
