from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.decoder import weights
from nexa.lm.decoder.model import Decoder
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.decoder.weights import fill, load_decoder
from nexa.lm.resolve import ModelFiles, resolve
from tests.support.tiny import ARCHITECTURES, tiny_model, tiny_tokenizer, write_tiny_model


def changed(folder: Path, changes: dict[str, Tensor | None]) -> ModelFiles:
    """Replace, add or (None) take out tensors of a folder's weights."""
    named = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor.clone() for name, tensor in named.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return resolve(str(folder))


def saved(files: ModelFiles) -> dict[str, Tensor]:
    return dict(weights.tensors(files))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_tensor_of_the_files_has_its_place(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    files = resolve(str(write_tiny_model(tmp_path / "m", architecture, tied=tied)))
    decoder = load_decoder(files, dtype=torch.float32)
    placed, theirs = dict(decoder.places()), saved(files)
    assert placed.keys() == theirs.keys()
    assert all(torch.equal(placed[name], tensor) for name, tensor in theirs.items())


def test_shards_are_read_one_after_another(tmp_path: Path) -> None:
    whole = resolve(str(write_tiny_model(tmp_path / "whole")))
    model = tiny_model()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path / "shards")
    shards = resolve(str(tmp_path / "shards"))
    assert len([name for name in shards.files if name.endswith(".safetensors")]) > 2
    ours = dict(load_decoder(shards, dtype=torch.bfloat16).places())
    for name, tensor in load_decoder(whole, dtype=torch.bfloat16).places():
        assert torch.equal(ours[name], tensor)


def test_no_second_copy_of_the_weights_is_made(tmp_path: Path) -> None:
    """While they are read, what lives beside the decoder is the tensor under way and the last."""
    files = resolve(str(write_tiny_model(tmp_path / "m")))
    decoder = Decoder(shape_of(files.config), dtype=torch.float32)
    read: list[weakref.ref[Tensor]] = []

    def watched() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights.tensors(files):
            read.append(weakref.ref(tensor))
            assert sum(ref() is not None for ref in read) <= 2
            yield name, tensor

    fill(decoder, watched(), "m")
    assert len(read) == len(dict(decoder.places()))


def test_room_for_adapters_is_made_at_once(tmp_path: Path) -> None:
    files = resolve(str(write_tiny_model(tmp_path / "m")))
    name = "model.layers.1.self_attn.k_proj"
    decoder = load_decoder(files, dtype=torch.float32, ranks={name: 4})
    qkv = decoder.layers[1].qkv
    assert qkv.weight.shape == (32 + 16 + 16, 32 + 4)
    assert not qkv.weight[:, 32:].any()
    assert decoder.layers[0].qkv.weight.shape == (64, 32)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.norm.weight": None}, "missing: model.norm.weight"),
        ({"model.extra": torch.zeros(2)}, "not the model's: model.extra"),
        ({"model.norm.weight": torch.zeros(5)}, "of another shape: model.norm.weight"),
        (
            {
                f"model.layers.{i}.mlp.{p}_proj.weight": None
                for i in (0, 1)
                for p in ("up", "gate", "down")
            },
            "missing: model.layers.0.mlp.down_proj.weight, model.layers.0.mlp.gate_proj.weight, "
            "model.layers.0.mlp.up_proj.weight, model.layers.1.mlp.down_proj.weight, "
            "model.layers.1.mlp.gate_proj.weight and 1 more",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    changes: dict[str, Tensor | None], told: str, tmp_path: Path
) -> None:
    files = changed(write_tiny_model(tmp_path / "m"), changes)
    with pytest.raises(ModelError, match=r"do not fit its config.json") as caught:
        load_decoder(files, dtype=torch.float32)
    assert caught.value.found == told


def test_frequencies_of_old_files_are_passed_over(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    files = changed(write_tiny_model(tmp_path / "m"), {name: torch.ones(4)})
    load_decoder(files, dtype=torch.float32)


def test_a_head_beside_a_tied_embedding_has_to_be_equal(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    load_decoder(changed(folder, {"lm_head.weight": embedding}), dtype=torch.float32)
    with pytest.raises(ModelError, match="brings two that differ"):
        load_decoder(changed(folder, {"lm_head.weight": embedding + 1}), dtype=torch.float32)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"cannot read .*model.safetensors"):
        load_decoder(resolve(str(folder)), dtype=torch.float32)


def test_another_architecture_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gemma2"}))
    with pytest.raises(UnsupportedDecoder, match="gemma2"):
        load_decoder(resolve(str(folder)), dtype=torch.float32)


def test_a_decoder_may_be_filled_again(tmp_path: Path) -> None:
    files = resolve(str(write_tiny_model(tmp_path / "m")))
    other = resolve(str(write_tiny_model(tmp_path / "other", seed=1)))
    decoder = Decoder(shape_of(files.config), dtype=torch.float32)
    fill(decoder, weights.tensors(files), "m")
    fill(decoder, weights.tensors(other), "other")
    assert all(torch.equal(saved(other)[name], place) for name, place in decoder.places())
