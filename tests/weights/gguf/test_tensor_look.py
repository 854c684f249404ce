from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nexa.lm.gguf_file import GgufFile
from nexa.weights.gguf.tensor_look import RowOrder, TensorLook, _relative
from nexa.weights.gguf.write import write_gguf
from nexa.weights.tensors import model_weights
from tests.support.tiny import write_tiny_model

QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def look(tmp_path: Path) -> TensorLook:
    folder = write_tiny_model(tmp_path / "model")
    written = write_gguf(folder, tmp_path / "x.gguf", quantization="f32", name="tiny")
    file = GgufFile.open(tmp_path / "x.gguf")
    order = RowOrder("llama", heads=4, key_heads=2)
    return TensorLook(file, model_weights(folder), order, tied=True, written=written)


def test_a_tensor_is_given_in_transformers_order_of_rows(look: TensorLook) -> None:
    source, values = look.read(QUERY)

    assert torch.equal(source, values)
    stored = torch.from_numpy(look.file.read("blk.0.attn_q.weight")).view(torch.float32)
    assert not torch.equal(stored, values)


def test_a_tensor_that_one_side_does_not_have_is_empty_there(look: TensorLook) -> None:
    source, values = look.read("lm_head.weight")

    assert source.numel() == values.numel() == 0
    assert all(check.passed for check in look.checks())


def test_shapes_are_told_by_transformers_names(look: TensorLook) -> None:
    shapes = TensorLook.shapes_of(look.file)

    assert shapes[QUERY] == (32, 32)
    assert shapes["model.norm.weight"] == (32,)


def test_of_a_tensor_of_zeros_nothing_may_be_left() -> None:
    zeros, ones = torch.zeros(3), torch.ones(3)

    assert _relative(zeros, zeros) == 0
    assert _relative(ones, zeros) == math.inf
    assert _relative(zeros, ones) == 1
