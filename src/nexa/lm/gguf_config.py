"""A GGUF file's metadata -> config.json and generation_config.json.

Only what the file says is written; everything else is transformers' default for the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nexa.core.errors import ModelError
from nexa.lm import gguf_rope
from nexa.lm.gguf_names import FAMILIES

CONFIG_KEYS: dict[str, str] = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
EPSILON = "attention.layer_norm_rms_epsilon"
EMBEDDING = "model.embed_tokens.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"


def config_of(
    metadata: Mapping[str, Any],
    model_type: str,
    shapes: Mapping[str, tuple[int, ...]],
    rope_divisors: npt.NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """config.json of a model with these tensor shapes (transformers' names).

    Raises:
        ModelError: a number that the family needs is missing, or positions are scaled in a way
            that transformers cannot be told.
    """
    prefix = metadata["general.architecture"]
    missing = [key for key in (*CONFIG_KEYS, EPSILON) if f"{prefix}.{key}" not in metadata]
    missing += [name for name in (EMBEDDING, QUERY) if name not in shapes]
    if missing:
        raise ModelError(
            f"this GGUF file does not have what a {model_type} needs", found=", ".join(missing)
        )
    config: dict[str, Any] = {
        "model_type": model_type,
        "architectures": [FAMILIES[model_type].architecture],
        "dtype": "float32",
        # The embedding has the last word: a file's token list may be padded to it or not.
        "vocab_size": shapes[EMBEDDING][0],
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "rms_norm_eps": _shortest(metadata[f"{prefix}.{EPSILON}"]),
        "rope_theta": _shortest(metadata.get(f"{prefix}.rope.freq_base", 10_000.0)),
        **{ours: int(metadata[f"{prefix}.{key}"]) for key, ours in CONFIG_KEYS.items()},
        **_ids(metadata),
    }
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = int(metadata.get(f"{prefix}.attention.head_count_kv", heads))
    # Q's own shape says it, whatever optional key a converter has left out.
    config["head_dim"] = shapes[QUERY][0] // heads
    theta = config["rope_theta"]
    scaled = gguf_rope.parameters(metadata, theta=theta, divisors=rope_divisors)
    if scaled is not None:
        config["rope_parameters"] = scaled
    if model_type != "qwen2":  # whose Q, K and V have biases always, and no switch for it
        config["attention_bias"] = "model.layers.0.self_attn.q_proj.bias" in shapes
    if model_type == "llama":
        config["mlp_bias"] = "model.layers.0.mlp.up_proj.bias" in shapes
    return config


def generation_config_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json: every id at which an answer ends, and how to begin and pad."""
    ids = _ids(metadata)
    ends = [ids.get("eos_token_id")]
    ends += [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eom")]
    stops = sorted({int(end) for end in ends if end is not None})
    if stops:
        ids["eos_token_id"] = stops[0] if len(stops) == 1 else stops
    return ids


def _ids(metadata: Mapping[str, Any]) -> dict[str, Any]:
    keys = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {ours: metadata.get(f"tokenizer.ggml.{key}_token_id") for ours, key in keys.items()}
    return {ours: int(value) for ours, value in found.items() if value is not None}


def _shortest(value: float) -> float:
    """The shortest decimal of a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
