from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nexa.lm.decoder import generation_model
from nexa.lm.decoder.generation import read
from nexa.lm.decoder.generation_model import GenerationModel, Product, can_pack
from nexa.lm.decoder.weights import load_decoder
from nexa.lm.documents import Documents
from nexa.lm.load import load
from nexa.lm.resolve import ModelFiles
from tests.lm.lively import prompts_of, write_lively
from tests.support.tiny import ARCHITECTURES


def generation_model_of(files: ModelFiles, dtype: torch.dtype = torch.float32) -> GenerationModel:
    return GenerationModel(load_decoder(files, dtype=dtype))


def logits_of(model: GenerationModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(read(model, [ids], Documents((len(ids),)))).float()


def transformers_logits(files: ModelFiles, ids: list[int], dtype: str) -> torch.Tensor:
    with torch.no_grad():
        return load(files, dtype=dtype).model(input_ids=torch.tensor([ids])).logits[0].float()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_logits_are_those_of_transformers(tmp_path: Path, architecture: str, tied: bool) -> None:
    files = write_lively(tmp_path / "model", architecture, tied=tied)
    (ids,) = prompts_of([50])
    torch.testing.assert_close(
        logits_of(generation_model_of(files), ids),
        transformers_logits(files, ids, "float32"),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    "rotation",
    [
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 10_000.0,
        },
    ],
)
def test_a_scaled_rotation_is_kept(tmp_path: Path, rotation: dict[str, object]) -> None:
    files = write_lively(tmp_path / "model", rope_parameters=rotation)
    (ids,) = prompts_of([90])
    torch.testing.assert_close(
        logits_of(generation_model_of(files), ids),
        transformers_logits(files, ids, "float32"),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_bfloat16_is_as_near_to_float32_as_transformers_own(
    tmp_path: Path, architecture: str
) -> None:
    files = write_lively(tmp_path / "model", architecture)
    (ids,) = prompts_of([200])
    exact = transformers_logits(files, ids, "float32")
    theirs = (transformers_logits(files, ids, "bfloat16") - exact).abs().mean()
    ours = (logits_of(generation_model_of(files, torch.bfloat16), ids) - exact).abs().mean()
    assert 0 < ours < 1.1 * theirs


def test_hidden_states_are_given_where_they_are_wanted(tmp_path: Path) -> None:
    model = generation_model_of(write_lively(tmp_path / "model"))
    first, second = prompts_of([9, 5])
    documents = Documents((9, 5))
    with torch.no_grad():
        everywhere = read(model, [first, second], documents)
        ends = read(model, [first, second], documents, wanted=torch.tensor([8, 13]))
    torch.testing.assert_close(ends, everywhere[[8, 13]], rtol=1e-5, atol=1e-5)


def test_the_weights_are_taken_away_from_the_decoder(tmp_path: Path) -> None:
    decoder = load_decoder(write_lively(tmp_path / "model"), dtype=torch.float32)
    GenerationModel(decoder)
    assert all(len(block.gate_up.weight) == 0 for block in decoder.layers)


def test_a_released_model_holds_no_weights(tmp_path: Path) -> None:
    model = generation_model_of(write_lively(tmp_path / "model"))
    model.release()
    assert (model.layers, model.embedding.numel(), model.head.weight.numel()) == ([], 0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 64, 130])
def test_packed_weights_give_the_same_product(dtype: torch.dtype, rows: int) -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias, x = (
        torch.randn(size, generator=random).to(dtype) for size in ((70, 36), (70,), (rows, 36))
    )
    expected = x.double() @ weight.double().T + bias.double()
    tolerance = 1e-5 if dtype is torch.float32 else 1e-2
    for pack in (True, False):
        product = Product(weight, bias, pack=pack)
        made = product(x)
        assert made.dtype is dtype
        torch.testing.assert_close(made.double(), expected, rtol=tolerance, atol=tolerance * 10)


def test_weights_are_packed_where_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    single = torch.zeros(2, 2)
    assert can_pack(single) == torch.backends.mkldnn.is_available()
    assert not can_pack(single.half())
    assert can_pack(single.bfloat16()) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert not can_pack(torch.zeros(2, 2, device="meta"))
    monkeypatch.setattr(generation_model.torch.ops, "mkldnn", object())
    assert not can_pack(single)
    product = Product(torch.eye(2))
    assert not product.packed
    assert torch.equal(product(torch.ones(3, 2)), torch.ones(3, 2))
