"""GGUF's tensor names and row order for the Llama family, both ways.

GGUF names tensors `blk.3.attn_q.weight` where transformers says
`model.layers.3.self_attn.q_proj.weight`. For Llama and Mistral, llama.cpp also stores the rows of
Q and K in another order: it rotates neighbouring pairs, transformers rotates halves.

Source: the GGUF specification, "Standardized tensor names"; llama.cpp's converter, `permute`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Family:
    """How one `model_type` of transformers is kept in a GGUF file."""

    gguf_architecture: str
    architecture: str
    """The class that transformers loads it with."""
    rotates_pairs: bool
    """Rows of Q and K are stored in llama.cpp's pair order."""


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", "LlamaForCausalLM", rotates_pairs=True),
    "mistral": Family("llama", "MistralForCausalLM", rotates_pairs=True),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", rotates_pairs=False),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", rotates_pairs=False),
}

# A GGUF file says `llama` for Mistral too. Without a sliding window, which GGUF's `llama` does not
# have, the two are the same function, so such a file is read as a Llama.
MODEL_TYPES: dict[str, str] = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

OUTER: dict[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
INNER: dict[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_BACK = {theirs: ours for ours, theirs in OUTER.items()}
_INNER_BACK = {theirs: ours for ours, theirs in INNER.items()}
_GGUF = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")
_HF = re.compile(r"(?:model\.layers\.(?P<layer>\d+)\.)?(?P<part>[\w.]+)\.(?P<kind>weight|bias)")


def to_transformers(name: str) -> str | None:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`; None when unknown."""
    match = _GGUF.fullmatch(name)
    if match is None:
        return None
    layer, part, kind = match["layer"], match["part"], match["kind"]
    found = OUTER.get(part) if layer is None else INNER.get(part)
    if found is None:
        return None
    return f"{found}.{kind}" if layer is None else f"model.layers.{layer}.{found}.{kind}"


def to_gguf(name: str) -> str | None:
    """`model.layers.3.self_attn.q_proj.weight` -> `blk.3.attn_q.weight`; None when unknown."""
    match = _HF.fullmatch(name)
    if match is None:
        return None
    layer, part, kind = match["layer"], match["part"], match["kind"]
    found = _OUTER_BACK.get(part) if layer is None else _INNER_BACK.get(part)
    if found is None:
        return None
    return f"{found}.{kind}" if layer is None else f"blk.{layer}.{found}.{kind}"


def rotated_heads(name: str, model_type: str, *, heads: int, key_heads: int) -> int | None:
    """How many heads' rows stand in pair order in this tensor; None when none do.

    `name` is either library's; weights and biases of Q and K are meant.
    """
    if not FAMILIES[model_type].rotates_pairs:
        return None
    part = (to_gguf(name) or name).split(".")[-2]
    return {"attn_q": heads, "attn_k": key_heads}.get(part)


def pairs_to_halves(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Row order of llama.cpp -> transformers'. Shape `[heads * head_dim, ...]`, kept.

    Row `2 i + h` of a head (pair i, half h) goes to row `h * head_dim / 2 + i`.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halves_to_pairs(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Row order of transformers -> llama.cpp's: the inverse of `pairs_to_halves`."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
