from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexa.core.errors import ConfigError, VocabularyError, WeightsError
from nexa.lm import load as loading
from nexa.lm.adapters import LoraSpec
from nexa.lm.load import load, release
from nexa.lm.resolve import ModelFiles, resolve
from nexa.lm.tokenizer import load_tokenizer
from nexa.train import engines
from nexa.train.batches import TokenRow
from nexa.train.engines import engine
from nexa.train.spec import TrainSpec
from tests.train.sample import random_rows

ROWS = random_rows(4)
DROPOUT = LoraSpec(rank=4, dropout=0.1)


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    release()
    yield
    release()


def spec(base: ModelFiles, **changes: Any) -> TrainSpec:
    return TrainSpec(base, **{"lora": LoraSpec(rank=4), "precision": "float32", **changes})


@pytest.mark.parametrize(
    ("changes", "taken", "reason"),
    [
        ({}, "fused", "it computes this model and method"),
        ({"engine": "fused"}, "fused", "asked for"),
        ({"engine": "generic"}, "generic", "asked for"),
        ({"lora": DROPOUT}, "generic", "not fused: it does not compute LoRA with dropout"),
        (
            {"method": "full", "lora": None},
            "generic",
            "not fused: it trains adapters, not all weights",
        ),
    ],
)
def test_which_engine_is_taken_and_why(
    base: ModelFiles, changes: dict[str, Any], taken: str, reason: str
) -> None:
    with engine(spec(base, **changes), ROWS, "float32") as executor:
        assert (executor.way.engine, executor.way.engine_reason) == (taken, reason)
        assert executor.way.attention == "probabilities kept"


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"lora": DROPOUT}, "dropout"), ({"method": "full", "lora": None}, "all weights")],
)
def test_asking_for_the_fused_engine_where_it_cannot_is_an_error(
    base: ModelFiles, changes: dict[str, Any], named: str
) -> None:
    with (
        pytest.raises(ConfigError, match="the fused engine cannot run this") as caught,
        engine(spec(base, engine="fused", **changes), ROWS, "float32"),
    ):
        pass
    assert caught.value.found is not None
    assert named in caught.value.found


def test_the_fused_engine_leaves_no_other_copy_of_the_weights(base: ModelFiles) -> None:
    load(base, dtype="float32")
    tokenizer = load_tokenizer(base)
    with engine(spec(base), ROWS, "float32"):
        assert not loading._slots
    assert load_tokenizer(base) is tokenizer  # which takes longer to read than the weights
    load(base, dtype="float32")
    with engine(spec(base, engine="generic"), ROWS, "float32"):
        assert len(loading._slots) == 1


@pytest.mark.parametrize("asked", ["fused", "generic"])
def test_a_token_beyond_the_vocabulary_is_named(base: ModelFiles, asked: Any) -> None:
    rows = [TokenRow("odd", [1, 5000, 2], [False, True, True])]
    with (
        pytest.raises(VocabularyError) as caught,
        engine(spec(base, engine=asked), rows, "float32"),
    ):
        pass
    assert caught.value.found is not None
    assert "token 5000 in row odd" in caught.value.found


@pytest.mark.parametrize("asked", ["fused", "generic"])
def test_weights_that_are_not_numbers_are_named(
    base: ModelFiles, asked: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(base.folder, tmp_path / "broken")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = load_file(folder / "model.safetensors")
    tensors[name][3, 4] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with (
        pytest.raises(WeightsError) as caught,
        engine(spec(resolve(str(folder)), engine=asked), ROWS, "float32"),
    ):
        pass
    assert caught.value.found is not None
    assert name in caught.value.found


def test_a_run_that_repays_it_is_compiled(
    base: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "compile_pays", lambda *_: True)
    with engine(spec(base), ROWS, "float32") as executor:
        assert executor.way.kernels == "compiled"
