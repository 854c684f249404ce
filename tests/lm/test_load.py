from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, dynamic_module_utils
from transformers.utils import logging as transformers_logging

from nexa.core import events
from nexa.core.errors import ModelError
from nexa.core.events import Event
from nexa.lm.load import load, release
from nexa.lm.resolve import ModelFiles, resolve
from nexa.lm.tokenizer import load_tokenizer
from tests.lm.checkpoints import other_weights
from tests.support.tiny import ARCHITECTURES, write_tiny_model

pytestmark = pytest.mark.usefixtures("unloaded")
IDS = torch.arange(12)[None]


@pytest.fixture
def base(tmp_path: Path) -> ModelFiles:
    return resolve(str(write_tiny_model(tmp_path / "base")))


@pytest.fixture
def tuned(base: ModelFiles, tmp_path: Path) -> ModelFiles:
    """The same architecture with other numbers, other stops and other words about itself."""
    folder = shutil.copytree(base.folder, tmp_path / "tuned")
    (folder / "model.safetensors").write_bytes(other_weights(base.folder))
    change(folder / "config.json", eos_token_id=1, _name_or_path="somebody", dtype="bfloat16")
    change(folder / "generation_config.json", eos_token_id=[1, 2])
    return resolve(str(folder))


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> ModelFiles:
    """Replace, add or (None) take out tensors of a folder's weights."""
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return resolve(str(folder))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(IDS).logits
    return result


def plain(files: ModelFiles, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What transformers itself makes of the folder."""
    return logits(AutoModelForCausalLM.from_pretrained(files.folder, dtype=dtype))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_is_loaded_as_transformers_does(tmp_path: Path, architecture: str) -> None:
    files = resolve(str(write_tiny_model(tmp_path / "m", architecture, tied=False)))
    loaded = load(files, dtype="float32")
    assert torch.equal(logits(loaded.model), plain(files))
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "sdpa"
    assert loaded.model.config.use_cache
    assert loaded.model.name_or_path == loaded.tokenizer.name_or_path == "m"
    assert (loaded.files, loaded.dtype) == (files, "float32")
    assert load(files, dtype="float32").model is loaded.model


def test_bfloat16_is_the_default(base: ModelFiles) -> None:
    loaded = load(base)
    assert loaded.model.dtype == torch.bfloat16
    assert torch.equal(logits(loaded.model), plain(base, torch.bfloat16))


def test_other_weights_are_copied_into_the_module_that_is_there(
    base: ModelFiles, tuned: ModelFiles
) -> None:
    heard: list[Event] = []
    with events.listening(heard.append):
        first = load(base, dtype="float32")
        second = load(tuned, dtype="float32")
        assert second.model is first.model
        assert torch.equal(logits(second.model), plain(tuned))
        assert second.model.generation_config.eos_token_id == [1, 2]
        assert second.model.config.eos_token_id == 1
        third = load(base, dtype="float32")
    assert [event["kind"] for event in heard] == [
        "model.loaded",
        "model.refilled",
        "model.refilled",
    ]
    assert torch.equal(logits(third.model), plain(base))
    assert third.model.config.eos_token_id == 2
    assert third.tokenizer is first.tokenizer


def test_who_holds_weights_that_were_replaced_is_told(base: ModelFiles, tuned: ModelFiles) -> None:
    first = load(base)
    first.require_current()
    second = load(tuned)
    second.require_current()
    with pytest.raises(ModelError, match="holds tuned by now, not base"):
        first.require_current()
    release()
    first.require_current()  # nobody else writes into it any more


def test_a_module_that_was_trained_is_itself_again(base: ModelFiles) -> None:
    first = load(base, dtype="float32")
    for parameter in first.model.parameters():
        parameter.data.add_(1)
    first.model.train()
    again = load(base, dtype="float32")
    assert again.model is first.model
    assert torch.equal(logits(again.model), plain(base))
    assert not again.model.training


def test_a_dtype_has_a_module_of_its_own(base: ModelFiles) -> None:
    half, full = load(base, dtype="bfloat16"), load(base, dtype="float32")
    assert half.model is not full.model
    assert load(base, dtype="float32").model is full.model


def test_another_architecture_has_a_module_of_its_own(base: ModelFiles, tmp_path: Path) -> None:
    other = resolve(str(write_tiny_model(tmp_path / "other", tied=False)))
    assert load(other).model is not load(base).model


def test_a_module_with_an_adapter_left_on_it_is_not_taken_for_a_base(base: ModelFiles) -> None:
    first = load(base, dtype="float32")
    layer = first.model.model.layers[0].self_attn.q_proj
    layer.forward = lambda x: torch.zeros(*x.shape[:-1], layer.out_features)
    second = load(base, dtype="float32")
    assert second.model is not first.model
    assert torch.equal(logits(second.model), plain(base))


def test_released_models_are_loaded_anew(base: ModelFiles) -> None:
    first = load(base)
    release()
    assert load(base).model is not first.model


def test_a_head_beside_tied_embeddings_must_be_the_same(base: ModelFiles) -> None:
    load(base)
    embeddings = load_file(base.folder / "model.safetensors")["model.embed_tokens.weight"]
    same = change_tensors(base.folder, {"lm_head.weight": embeddings})
    assert torch.equal(logits(load(same, dtype="float32").model), plain(same))
    assert torch.equal(logits(load(same, dtype="float32").model), plain(same))
    other = change_tensors(base.folder, {"lm_head.weight": embeddings + 1})
    with pytest.raises(ModelError, match="two that differ"):
        load(other)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.norm.weight": None}, r"missing: model\.norm\.weight"),
        ({"model.extra.weight": torch.ones(2)}, r"not the model's: model\.extra\.weight"),
        ({"model.norm.weight": torch.ones(7)}, r"of another shape: model\.norm\.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    base: ModelFiles, tmp_path: Path, changes: dict[str, Any], said: str, second: bool
) -> None:
    folder = shutil.copytree(base.folder, tmp_path / "bad")
    if second:  # a module of the architecture is there already
        load(base)
    with pytest.raises(ModelError, match=said):
        load(change_tensors(folder, changes))
    assert torch.equal(logits(load(base, dtype="float32").model), plain(base))


def test_many_tensors_that_are_missing_are_not_all_named(base: ModelFiles) -> None:
    gone = {f"model.layers.1.mlp.{part}_proj.weight": None for part in ("gate", "up", "down")} | {
        f"model.layers.1.self_attn.{part}_proj.weight": None for part in "qkvo"
    }
    with pytest.raises(ModelError, match="and 2 more"):
        load(change_tensors(base.folder, gone))


def test_torn_weights_are_refused(base: ModelFiles) -> None:
    path = base.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(resolve(str(base.folder)))


def test_a_config_that_transformers_does_not_know_is_refused(base: ModelFiles) -> None:
    change(base.folder / "config.json", model_type="nonesuch")
    with pytest.raises(ModelError, match="cannot read the config of base"):
        load(resolve(str(base.folder)))
    change(base.folder / "config.json", model_type="vit", num_labels=2)
    with pytest.raises(ModelError, match="cannot load base"):
        load(resolve(str(base.folder)))


def test_an_unknown_dtype_is_refused(base: ModelFiles) -> None:
    with pytest.raises(ModelError, match=r"bfloat16, float16, float32"):
        load(base, dtype="bfloat61")


def test_a_broken_tokenizer_is_refused(base: ModelFiles) -> None:
    (base.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load the tokenizer of base"):
        load_tokenizer(resolve(str(base.folder)))


def test_equal_tokenizers_are_one(base: ModelFiles, tuned: ModelFiles) -> None:
    assert load_tokenizer(base) is load_tokenizer(tuned)
    (tuned.folder / "chat_template.jinja").write_text("{{ 'another' }}")
    other = load_tokenizer(resolve(str(tuned.folder)))
    assert other.chat_template == "{{ 'another' }}"


def test_only_the_hashed_files_are_seen(base: ModelFiles) -> None:
    """Beside an adapter_config.json, transformers would load that adapter's base instead."""
    config = {"base_model_name_or_path": "/nowhere", "peft_type": "LORA"}
    (base.folder / "adapter_config.json").write_text(json.dumps(config))
    (base.folder / "adapter_model.safetensors").write_bytes(b"")
    loaded = load(resolve(str(base.folder)), dtype="float32")
    (base.folder / "adapter_config.json").unlink()
    assert torch.equal(logits(loaded.model), plain(base))


def test_an_adapter_is_left_to_who_asked_for_it(base: ModelFiles) -> None:
    files = replace(base, files={**base.files, "adapter/adapter_config.json": "0" * 64})
    assert torch.equal(logits(load(files, dtype="float32").model), plain(base))


def test_a_model_without_a_generation_config_stops_where_its_config_says(
    base: ModelFiles,
) -> None:
    (base.folder / "generation_config.json").unlink()
    files = resolve(str(base.folder))
    for _ in range(2):
        assert load(files).model.generation_config.eos_token_id == 2


@pytest.mark.parametrize("bars", [True, False])
def test_loading_is_quiet_and_leaves_the_users_settings(
    base: ModelFiles, capfd: pytest.CaptureFixture[str], bars: bool
) -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    switch = {
        True: transformers_logging.enable_progress_bar,
        False: transformers_logging.disable_progress_bar,
    }
    try:
        switch[bars]()
        transformers_logging.set_verbosity(logging.INFO)
        load(base)
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled() == bars
    finally:
        transformers_logging.set_verbosity(verbosity)
        switch[shown]()
    assert capfd.readouterr().err == ""


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(__file__).with_name("ran").touch()


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_model_s_own_code_runs_where_it_is_trusted_and_nowhere_else(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    folder = tmp_path / "own"
    shutil.copytree(tiny_llama, folder)
    (folder / "own.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_bytes())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config |= {"model_type": "own-llama", "architectures": ["OwnModel"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config))

    files = resolve(str(folder), trust_remote_code=True)
    with pytest.raises(ModelError, match="cannot read the config"):
        load(replace(files, trusted=False), dtype="float32")
    assert not list(modules.rglob("ran"))
    assert type(load(files, dtype="float32").model).__name__ == "OwnModel"
    assert list(modules.rglob("ran"))
