from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nexa.core.errors import ModelError
from nexa.weights import tensors
from nexa.weights.tensors import StoredWeights, model_weights


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


def test_a_torn_file_is_refused_by_name(stored: StoredWeights, tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ModelError, match="model-00002-of-00002"):
        model_weights(tmp_path)


def test_a_shape_is_that_of_the_tensor(stored: StoredWeights) -> None:
    assert [stored.shape(name) for name in stored.names] == [(2, 3), (4,)]


def test_what_was_read_is_let_go_after_a_while_and_read_again(
    stored: StoredWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored.stored("a")
    monkeypatch.setattr(tensors, "MAPPED_BYTES", 0)

    again = stored.stored("a")

    assert first.data_ptr() != again.data_ptr()
    assert torch.equal(first, again)
