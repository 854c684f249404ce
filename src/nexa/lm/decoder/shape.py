"""What of a config.json the fused decoder computes, and what it refuses by name.

Llama, SmolLM, Mistral, Qwen2, Qwen2.5 and Qwen3 are one architecture with switches: biases, a
norm on each head's query and key, a tied output head, a scaled rotation, a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexa.lm.decoder.rotary import Rotary, UnsupportedDecoder, rotary_of

__all__ = ["FAMILIES", "DecoderShape", "UnsupportedDecoder", "shape_of"]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

# What a config.json has to tell. Where it leaves one of these out, transformers takes a default of
# the architecture's own; guessing it here could be another model.
SIZES = (
    *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"),
    *("vocab_size", "rms_norm_eps"),
)
OWN_SIZES = {
    "llama": (),
    "mistral": ("num_key_value_heads", "sliding_window"),
    "qwen2": ("num_key_value_heads",),
    "qwen3": ("num_key_value_heads", "head_dim"),
}


@dataclass(frozen=True)
class DecoderShape:
    """Sizes and switches of a Llama-like decoder."""

    family: str
    layers: int
    width: int
    mlp_width: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    norm_eps: float
    rotary: Rotary
    window: int  # tokens a query sees at most; 0: all before it
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    head_norms: bool  # Qwen3: a norm on each head's query and key
    tied: bool  # the output head is the embedding


def shape_of(config: Mapping[str, Any]) -> DecoderShape:
    """The shape that a config.json tells.

    Raises:
        UnsupportedDecoder: another family, or a switch that is not computed here; names it.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedDecoder(
            f"the fused decoder does not know the architecture {family!r}",
            found=f"it computes {', '.join(FAMILIES)}",
        )
    _require_sizes(config, family)
    _refuse(config)
    heads = config["num_attention_heads"]
    attention_bias = bool(config.get("attention_bias", False))
    return DecoderShape(
        family=family,
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        mlp_width=config["intermediate_size"],
        heads=heads,
        key_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        norm_eps=config["rms_norm_eps"],
        rotary=rotary_of(config),
        window=_window(config),
        qkv_bias=family == "qwen2" or (attention_bias and family != "mistral"),
        out_bias=attention_bias and family in ("llama", "qwen3"),
        mlp_bias=family == "llama" and bool(config.get("mlp_bias", False)),
        head_norms=family == "qwen3",
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _require_sizes(config: Mapping[str, Any], family: str) -> None:
    """Everything that a default would have to stand for is told."""
    missing = [name for name in (*SIZES, *OWN_SIZES[family]) if name not in config]
    if missing:
        raise UnsupportedDecoder(
            "config.json leaves sizes of the model out", found=f"missing: {', '.join(missing)}"
        )


def _refuse(config: Mapping[str, Any]) -> None:
    """Switches that change the arithmetic and are not computed here."""
    other = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_dropout": bool(config.get("attention_dropout")),
        "pretraining_tp": config.get("pretraining_tp", 1) != 1,
        "quantization_config": "quantization_config" in config,
    }
    if named := [f"{name}: {config[name]}" for name, is_other in other.items() if is_other]:
        raise UnsupportedDecoder(
            "the fused decoder does not compute this configuration", found=", ".join(named)
        )


def _window(config: Mapping[str, Any]) -> int:
    """The sliding window of every layer; layers that differ are refused."""
    window = config.get("sliding_window") or 0
    if config["model_type"] in ("qwen2", "qwen3"):
        window = window if config.get("use_sliding_window") else 0
    kinds = set(config.get("layer_types") or ())
    if window and config["model_type"] != "mistral" and kinds != {"sliding_attention"}:
        raise UnsupportedDecoder(
            "the fused decoder has one window for all layers",
            found=f"layer_types: {', '.join(sorted(kinds)) or 'by max_window_layers'}",
        )
    if not window and "sliding_attention" in kinds:
        raise UnsupportedDecoder("layer_types has windows, and sliding_window does not say how far")
    return int(window)
