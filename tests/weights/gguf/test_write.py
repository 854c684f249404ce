from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core import events
from nexa.core.errors import (
    MissingExtra,
    ModelError,
    StorageError,
    UsageError,
    WeightsError,
)
from nexa.core.events import Event
from nexa.lm import gguf_read
from nexa.lm.gguf_file import GgufFile
from nexa.lm.gguf_read import GgufModel
from nexa.weights.gguf import k_quants
from nexa.weights.gguf.mixes import MIXES
from nexa.weights.gguf.write import _Writer, write_gguf
from tests.support.tiny import ARCHITECTURES, CHATML
from tests.weights.gguf.folders import NASTY, byte_level, edit_config, write_folder

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{architecture: (architecture, {}) for architecture in ARCHITECTURES},
    **{f"{a} untied": (a, {"tie_word_embeddings": False}) for a in ARCHITECTURES},
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "wide heads": ("qwen3", {"head_dim": 16}),
    "one key head": ("llama", {"num_key_value_heads": 1}),
    "llama3": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama3 mistral": ("mistral", {"rope_parameters": LLAMA3_ROPE}),
    "yarn": ("qwen2", {"rope_parameters": YARN}),
    "linear": ("llama", {"rope_parameters": LINEAR}),
}


def derived_of(tmp_path: Path) -> Path:
    return gguf_read.derive(tmp_path / "m.gguf")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_comes_back_bit_for_bit(tmp_path: Path, variant: str) -> None:
    architecture, options = VARIANTS[variant]
    folder = write_folder(tmp_path / "m", architecture, **options)
    written = write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="Tiny")
    made = derived_of(tmp_path)
    wanted, found = (load_file(path / "model.safetensors") for path in (folder, made))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    assert written.fallbacks == {}
    assert written.size_bytes == (tmp_path / "m.gguf").stat().st_size
    models = [AutoModelForCausalLM.from_pretrained(path) for path in (folder, made)]
    ids = torch.arange(300)[None]
    with torch.no_grad():
        a, b = (model(ids).logits for model in models)
    # In a mistral's place stands a llama, and numbers of the rotation were float32 in between.
    assert (a - b).abs().max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_llama_cpp_goes_on_as_transformers_does(tmp_path: Path, variant: str) -> None:
    pytest.importorskip("xllamacpp")
    from nexa.lm.llama_cpp import LlamaCpp

    architecture, options = VARIANTS[variant]
    folder = write_folder(tmp_path / "m", architecture, **options)
    write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="Tiny")
    model = AutoModelForCausalLM.from_pretrained(folder)
    # Far enough for scaled positions to tell.
    prompt = [3 + i * 7 % 290 for i in range(200)]
    with LlamaCpp.open(tmp_path / "m.gguf", positions=256) as runtime:
        found = runtime.log_probs(prompt, start=199)[0]
    with torch.no_grad():
        wanted = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    assert (found - wanted).abs().max() < 1e-4


def test_the_tokenizer_the_template_and_the_ends_are_the_models_own(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="Tiny")
    fields = GGUFReader(tmp_path / "m.gguf").fields
    told = {name: field.contents() for name, field in fields.items()}
    assert told["general.name"] == "Tiny"
    assert told["general.file_type"] == 0
    assert told["general.quantization_version"] == 2
    assert told["tokenizer.chat_template"] == CHATML
    assert len(told["tokenizer.ggml.tokens"]) == 320
    assert told["tokenizer.ggml.tokens"][-1] == "[PAD319]"
    assert told["tokenizer.ggml.eot_token_id"] == told["tokenizer.ggml.eos_token_id"] == 2
    source, made = (AutoTokenizer.from_pretrained(path) for path in (folder, derived_of(tmp_path)))
    assert len(made) == len(source)
    for text in NASTY:
        assert made(text).input_ids == source(text).input_ids
        assert made.decode(made(text).input_ids) == source.decode(source(text).input_ids)
    for name in ("chat_template", "eos_token", "pad_token", "unk_token"):
        assert getattr(made, name) == getattr(source, name)
    assert (source.bos_token, made.bos_token) == (None, "<|im_start|>")  # of config.json


@pytest.mark.parametrize("quantization", ["f16", "q4_0", "q4_k_m"])
def test_equal_folders_give_equal_bytes(tmp_path: Path, quantization: str) -> None:
    folder = write_folder(tmp_path / "m")
    for name in ("a", "b"):
        write_gguf(folder, tmp_path / f"{name}.gguf", quantization=quantization, name="Tiny")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("quantization", MIXES)
def test_every_quantisation_stays_near_the_source(tmp_path: Path, quantization: str) -> None:
    # Rows of 512: two blocks of 256, so that K-quants are what is written.
    folder = write_folder(
        tmp_path / "m", hidden_size=512, intermediate_size=512, head_dim=128, vocab_size=301
    )
    out = tmp_path / "m.gguf"
    written = write_gguf(folder, out, quantization=quantization, name="Tiny")
    assert written.fallbacks == {}
    file = GgufFile.open(out)
    assert {name: held.kind.name for name, held in file.tensors.items()} == written.types
    assert file.metadata["general.file_type"] == int(MIXES[quantization].file_type)
    # Root mean square of the error, as a share of the weights': a uniform grid of 2**bits steps
    # over +-3.5 sigma has 7 / 2**bits / sqrt(12); blocks fit their own range, so it is no more.
    limits = {"F32": 0.0, "F16": 3e-4, "BF16": 2.5e-3, "Q8_0": 0.008, "Q6_K": 0.03, "Q5_K": 0.06}
    limits |= {"Q5_0": 0.065, "Q5_1": 0.065, "Q4_K": 0.12, "Q4_0": 0.13, "Q4_1": 0.13}
    limits |= {"Q3_K": 0.25, "Q2_K": 0.5}
    source = load_file(folder / "model.safetensors")
    for plan in GgufModel.open(out).plans:
        values = source[plan.name].numpy()
        error = np.sqrt(np.mean((plan.read() - values) ** 2) / np.mean(values**2))
        assert error <= limits[plan.quantisation.name], (plan.name, plan.quantisation, error)


def test_rows_that_do_not_divide_are_written_otherwise_and_listed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", hidden_size=48, intermediate_size=80, head_dim=12)
    written = write_gguf(folder, tmp_path / "m.gguf", quantization="q8_0", name="Tiny")
    assert set(written.types.values()) == {"F16", "F32"}
    assert written.fallbacks["blk.0.ffn_down.weight"] == (
        "F16: rows of 80 do not divide by Q8_0's blocks of 32"
    )
    folder = write_folder(tmp_path / "n")
    written = write_gguf(folder, tmp_path / "n.gguf", quantization="q4_k_m", name="Tiny")
    assert written.fallbacks["token_embd.weight"].startswith("Q8_0: rows of 32")
    assert written.fallbacks["blk.0.attn_q.weight"].startswith("Q5_0: rows of 32")
    assert set(written.types) >= set(written.fallbacks)
    assert not any("norm" in name for name in written.fallbacks)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["one", "Straße", "日本", ""], GGUFValueType.STRING),
        ([-1, 0, 2**31 - 1], GGUFValueType.INT32),
        ([0.1, -2.5], GGUFValueType.FLOAT32),
        ([True, False], GGUFValueType.BOOL),
    ],
)
@pytest.mark.parametrize("typed", [True, False])
def test_lists_are_packed_as_gguf_packs_them(
    tmp_path: Path, values: list[Any], kind: GGUFValueType, typed: bool
) -> None:
    ours, theirs = (
        made(tmp_path / "file", "llama")._pack_val(values, GGUFValueType.ARRAY, typed, kind)
        for made in (_Writer, GGUFWriter)
    )
    assert ours == theirs


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    heard: list[Event] = []
    with events.listening(heard.append):
        write_gguf(write_folder(tmp_path / "m"), tmp_path / "m.gguf", quantization="f16", name="t")
    (end,) = [event for event in heard if event["kind"] == "progress.end"]
    assert end["done"] == pytest.approx(end["total"])


def test_shards_and_other_stored_types_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    whole = load_file(folder / "model.safetensors")
    halves = {name: tensor.bfloat16() for name, tensor in whole.items()}
    (folder / "model.safetensors").unlink()
    names = sorted(halves)
    for number, part in enumerate((names[:5], names[5:]), 1):
        file = folder / f"model-{number:05d}-of-00002.safetensors"
        save_file({name: halves[name] for name in part}, file)
    written = write_gguf(folder, tmp_path / "m.gguf", quantization="bf16", name="t")
    assert "BF16" in written.types.values()
    found = load_file(derived_of(tmp_path) / "model.safetensors")
    for name, tensor in halves.items():
        assert torch.equal(found[name], tensor.float()), name


def test_buffers_of_older_checkpoints_are_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / "model.safetensors"
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(load_file(path) | buffer, path)
    written = write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    assert not any("rotary" in name for name in written.types)


def test_a_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / "model.safetensors"
    extra = {
        "model.layers.0.mlp.experts.weight": torch.ones(2, 2),
        "model.layers.9.mlp.up_proj.weight": torch.ones(64, 32),
        "model.layers.0.self_attn.q_norm.weight": torch.ones(8),
        "model.norm.bias": torch.ones(32),
        "a.b": torch.ones(1),
        "c.d": torch.ones(1),
    }
    save_file(load_file(path) | extra, path)
    with pytest.raises(ModelError, match=r"no place.*\n.*a\.b, c\.d.* and 1 more"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    assert not (tmp_path / "m.gguf").exists()


def test_a_head_that_contradicts_the_config_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", tie_word_embeddings=False)
    path = folder / "model.safetensors"
    edit_config(folder, tie_word_embeddings=True)
    with pytest.raises(ModelError, match="an output matrix of its own"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    stored = load_file(path)
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    save_file(stored, path)
    written = write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    assert "output.weight" not in written.types
    edit_config(folder, tie_word_embeddings=False)
    del stored["lm_head.weight"]
    save_file(stored, path)
    with pytest.raises(ModelError, match="has no output matrix"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / "model.safetensors"
    stored = load_file(path)
    edit_config(folder, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"(?s)not all of its layers.*2 of 3"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    edit_config(folder, num_hidden_layers=2)
    del stored["model.layers.1.mlp.up_proj.weight"]
    save_file(stored, path)
    with pytest.raises(ModelError, match=r"(?s)not whole.*blk\.1\.ffn_up\.weight"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")
    del stored["model.embed_tokens.weight"]
    save_file(stored, path)
    with pytest.raises(ModelError, match=r"(?s)embedding is not.*0 rows"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (float("nan"), WeightsError, "not numbers"),
        (float("-inf"), WeightsError, "not numbers"),
        (-70_000.0, ModelError, "up to 70000"),
    ],
)
def test_what_the_type_cannot_hold_is_refused_and_nothing_is_left(
    tmp_path: Path, value: float, error: type[Exception], said: str
) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / "model.safetensors"
    stored = load_file(path)
    stored["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(stored, path)
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match=said):
        write_gguf(folder, tmp_path / "out" / "m.gguf", quantization="f16", name="t")
    assert list((tmp_path / "out").iterdir()) == []
    if value == -70_000.0:
        write_gguf(folder, tmp_path / "out" / "m.gguf", quantization="bf16", name="t")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "m")
    out = tmp_path / "out" / "m.gguf"
    write_gguf(folder, out, quantization="f32", name="t")
    before = out.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            write_gguf(folder, out, quantization="f16", name="t")
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["m.gguf"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        write_gguf(folder, tmp_path / "file" / "m.gguf", quantization="f32", name="t")


def test_an_unknown_quantisation_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--quantization q4_k_m"):
        write_gguf(tmp_path, tmp_path / "m.gguf", quantization="q4_km", name="t")


def test_without_the_extra_k_quants_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "m", hidden_size=256, head_dim=64, intermediate_size=256)
    k_quants.function.cache_clear()
    monkeypatch.setattr(k_quants, "MODULE", "no_such_package")
    try:
        with pytest.raises(MissingExtra, match=r"pip install"):
            write_gguf(folder, tmp_path / "m.gguf", quantization="q4_k_m", name="t")
        assert not (tmp_path / "m.gguf").exists()
        write_gguf(folder, tmp_path / "m.gguf", quantization="q4_0", name="t")
    finally:
        k_quants.function.cache_clear()


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        write_gguf(folder, tmp_path / "m.gguf", quantization="f32", name="t")


def test_what_was_read_from_a_file_gives_the_same_file_again(tmp_path: Path) -> None:
    """As SmolLM2's folder, which was made of a GGUF file."""
    folder = write_folder(tmp_path / "m", tokenizer=byte_level("smollm"))
    write_gguf(folder, tmp_path / "m.gguf", quantization="f16", name="t")
    made = derived_of(tmp_path)
    write_gguf(made, tmp_path / "again.gguf", quantization="f16", name="t")
    first, again = (GgufFile.open(tmp_path / name) for name in ("m.gguf", "again.gguf"))
    assert again.metadata == first.metadata
    assert (tmp_path / "m.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()
