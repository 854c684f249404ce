from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.lm import local
from nexa.lm.decoder.shape import UnsupportedDecoder
from nexa.lm.fused import load_fused, why_not
from nexa.lm.load import load
from nexa.lm.resolve import ModelFiles
from tests.lm.lively import prompts_of, write_lively


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return write_lively(tmp_path / "model")


def test_a_llama_can_be_answered_for_in_two_dtypes(files: ModelFiles) -> None:
    assert why_not(files, "float32") == why_not(files, "bfloat16") == ""
    assert "not in float16" in why_not(files, "float16")
    with pytest.raises(UnsupportedDecoder, match="not in float16"):
        load_fused(files, dtype="float16")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"auto_map": "modeling.Own"}, "brings code of its own"),
        ({"model_type": "gpt2"}, "does not know the architecture 'gpt2'"),
        ({"hidden_act": "gelu"}, "does not compute this configuration: hidden_act: gelu"),
    ],
)
def test_a_model_that_is_not_computed_is_named(
    tmp_path: Path, files: ModelFiles, config: dict[str, str], reason: str
) -> None:
    other = dataclasses.replace(files)
    other.__dict__["config"] = {**files.config, **config}
    assert reason in why_not(other, "float32")


def test_loading_another_model_lets_go_of_the_one_before(tmp_path: Path, files: ModelFiles) -> None:
    base = load_fused(files, dtype="float32")
    tuned = load_fused(write_lively(tmp_path / "tuned", seed=1), dtype="float32")
    assert base.model.layers == []
    with pytest.raises(ModelError, match="no longer in memory"):
        base.require_current()
    with pytest.raises(ModelError, match="no longer in memory"):
        local.generate(base, prompts_of([4]), max_new_tokens=2, stop_ids=())
    tuned.require_current()


def test_models_of_the_other_engine_are_forgotten(files: ModelFiles) -> None:
    theirs = load(files, dtype="float32")
    load_fused(files, dtype="float32")
    assert load(files, dtype="float32").model is not theirs.model


def test_loading_is_told(files: ModelFiles) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        loaded = load_fused(files, dtype="float32")
    assert [(e["name"], e["dtype"], e["engine"]) for e in heard if e["kind"] == "model.loaded"] == [
        (files.name, "float32", "fused")
    ]
    assert loaded.positions == 512


def test_a_config_may_not_say_how_many_positions_there_are(files: ModelFiles) -> None:
    loaded = load_fused(files, dtype="float32")
    files.config.pop("max_position_embeddings")
    assert loaded.positions is None
