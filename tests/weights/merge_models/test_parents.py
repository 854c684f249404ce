from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from nexa.core.errors import ModelError
from nexa.lm.resolve import resolve
from nexa.weights.merge_models.parents import Ends, compare, ends_of, read_parent
from tests.support.foreign import peft_adapter
from tests.weights.merge_models.made import edit_json, edit_tensors, files, model


def config(folder: Path, **fields: Any) -> Path:
    edit_json(folder / "config.json", lambda told: told.update(fields))
    return folder


def compared(*folders: Path, owner: int = 0) -> tuple[dict[str, Any], list[str]]:
    return compare([read_parent(found) for found in files(*folders)], owner)


def difference(*folders: Path) -> str:
    with pytest.raises(ModelError, match="are not of one architecture") as caught:
        compared(*folders)
    return caught.value.found or ""


# -- reading -------------------------------------------------------------------------------------


def test_a_parent_is_read_by_its_headers(tmp_path: Path) -> None:
    (found,) = files(model(tmp_path / "a", tied=False, layers=3))
    parent = read_parent(found)
    assert parent.name == "a"
    assert not parent.tied
    assert parent.stack == "model.layers."
    assert len(parent.layers) == 3
    assert parent.layers[2]["mlp.up_proj.weight"] == "model.layers.2.mlp.up_proj.weight"
    assert parent.outer == ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight")
    assert parent.stored["model.norm.weight"].shape == (32,)
    assert ends_of(parent) == Ends("model.embed_tokens.weight", "lm_head.weight")


def test_tables_that_are_computed_anyway_are_left_out(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.ones(4)}))
    assert name not in read_parent(*files(folder)).stored


def test_a_config_without_the_word_ties_as_its_family_does(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", tied=False)
    edit_json(folder / "config.json", lambda told: told.pop("tie_word_embeddings"))
    assert not read_parent(*files(folder)).tied


def test_the_experts_of_a_layer_are_part_of_it(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    name = "model.layers.1.mlp.experts.7.w1.weight"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.ones(4)}))
    assert read_parent(*files(folder)).layers[1]["mlp.experts.7.w1.weight"] == name


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    extra = {f"model.layers.0.q{i}": torch.ones(2, dtype=torch.int8) for i in range(9)}
    edit_tensors(folder, lambda tensors: tensors.update(extra))
    with pytest.raises(ModelError, match="a has tensors that are no floating-point") as caught:
        read_parent(*files(folder))
    assert "model.layers.0.q0 (I8)" in (caught.value.found or "")
    assert (caught.value.found or "").endswith(" and 1 more")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"vision.layers.0.weight": torch.ones(2)}, "layers 0 to 1 of model.layers.N, vision.lay"),
        ({"model.layers.2.mlp.weight": torch.ones(2)}, "layers 0 to 2 of model.layers.N"),
    ],
    ids=["two stacks", "a layer too many"],
)
def test_only_one_stack_of_layers_is_merged(
    edit: dict[str, torch.Tensor], told: str, tmp_path: Path
) -> None:
    folder = model(tmp_path / "a")
    edit_tensors(folder, lambda tensors: tensors.update(edit))
    with pytest.raises(ModelError, match="not one stack of 2 layers") as caught:
        read_parent(*files(folder))
    assert (caught.value.found or "").startswith(told)


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".layers." in name]:
            del tensors[name]

    edit_tensors(folder, strip)
    with pytest.raises(ModelError) as caught:
        read_parent(*files(folder))
    assert caught.value.found == "layers None to None of no stack"


def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"cannot read .*model\.safetensors"):
        read_parent(*files(folder))


@pytest.mark.parametrize("kind", ["no_such_family", "clip"])
def test_a_config_that_names_no_layers_is_refused(kind: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match="transformers cannot read the config of a"):
        read_parent(*files(folder))


def test_code_of_a_models_own_is_not_merged(tmp_path: Path) -> None:
    folder = config(model(tmp_path / "a"), auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(ModelError, match="brings Python code of its own"):
        read_parent(resolve(str(folder), trust_remote_code=True))


def test_an_adapter_is_not_a_whole_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    adapter = peft_adapter(tmp_path / "adapter", folder)
    with pytest.raises(ModelError, match="adapter is an adapter on a model, not a whole one"):
        read_parent(resolve(str(adapter)))


def test_no_language_model_is_refused(tmp_path: Path) -> None:
    folder = config(model(tmp_path / "a"), model_type="vit")
    parent = read_parent(*files(folder))
    with pytest.raises(ModelError, match="a is not a causal language model"):
        ends_of(parent)


def test_an_embedding_under_another_name_is_told(tmp_path: Path) -> None:
    folder = model(tmp_path / "a")

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embed.weight"] = tensors.pop("model.embed_tokens.weight")

    edit_tensors(folder, rename)
    with pytest.raises(ModelError, match="keeps its embedding under another name"):
        ends_of(read_parent(*files(folder)))


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", tied=False)
    sharded = tmp_path / "sharded"
    shutil.copytree(folder, sharded)
    (sharded / "model.safetensors").unlink()
    module = AutoModelForCausalLM.from_pretrained(folder)
    module.save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    one, other = (read_parent(found) for found in files(folder, sharded))
    assert {n: t.shape for n, t in one.stored.items()} == {
        n: t.shape for n, t in other.stored.items()
    }
    assert other.head_differs("lm_head.weight", "model.embed_tokens.weight")
    assert not other.head_differs("lm_head.weight", "lm_head.weight")


# -- comparing -----------------------------------------------------------------------------------


def test_equal_configs_need_nothing(tmp_path: Path) -> None:
    assert compared(model(tmp_path / "a"), model(tmp_path / "b")) == ({}, [])


def test_words_without_effect_do_not_count(tmp_path: Path) -> None:
    other = config(
        model(tmp_path / "b"),
        transformers_version="4.30.0",
        use_cache=False,
        attention_dropout=0.1,
        initializer_range=0.5,
        eos_token_id=0,
        remark="mine",
        _name_or_path="x",
    )
    assert compared(model(tmp_path / "a"), other) == ({}, [])


def test_rope_in_an_older_versions_words_is_the_same(tmp_path: Path) -> None:
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
    new = config(model(tmp_path / "new"), rope_parameters=linear)
    old = model(tmp_path / "old")

    def before(told: dict[str, Any]) -> None:
        del told["rope_parameters"]
        told.update(rope_theta=5000.0, rope_scaling={"type": "linear", "factor": 2.0})

    edit_json(old / "config.json", before)
    assert compared(new, old) == ({}, [])


def test_another_family_is_refused(tmp_path: Path) -> None:
    found = difference(model(tmp_path / "a"), model(tmp_path / "b", "mistral"))
    assert found == "model_type: 'llama' in a, 'mistral' in b"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_parameters", {"rope_theta": 500000.0, "rope_type": "default"}),
        ("rope_parameters", {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}),
        ("rms_norm_eps", 1e-5),
        ("hidden_act", "gelu"),
    ],
    ids=["theta", "scaling", "epsilon", "activation"],
)
def test_what_is_computed_otherwise_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    other = config(model(tmp_path / "b"), **{key: value})
    assert difference(model(tmp_path / "a"), other).startswith(f"{key}: ")


def test_unlike_context_lengths_give_the_smaller_and_are_noted(tmp_path: Path) -> None:
    longer = config(model(tmp_path / "b"), max_position_embeddings=1024)
    found = compared(longer, model(tmp_path / "a"))
    assert found == (
        {"max_position_embeddings": 512},
        ["the context lengths differ (b 1024, a 512): the child has the smallest, 512"],
    )
