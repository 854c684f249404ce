"""A model folder's config -> what a GGUF file says of the model beside its vocabulary.

The configuration means what transformers takes it for, defaults and all: the model was trained
under those. What llama.cpp would compute otherwise is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nexa.core.errors import ModelError, nearest
from nexa.lm import gguf_rope
from nexa.lm.folder import read_config, read_json
from nexa.lm.gguf_names import FAMILIES, INNER, OUTER, Family

Value = bool | int | float | str | list[Any]
Metadata = dict[str, Value]
QUANTIZATION_VERSION = 2  # of ggml's blocks, since 2023
# What every family has a default of its own for, and what only some have.
NUMBERS = {
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps"),
}
OWN_DEFAULTS: dict[str, set[str]] = {"mistral": {"sliding_window"}, "qwen3": {"head_dim"}}
NORMS = {"attn_q_norm", "attn_k_norm"}  # of Qwen3 alone
# Biases that llama.cpp looks for, by family; of any other it would not know.
BIASES: dict[str, set[str]] = {
    "llama": {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"},
    "mistral": set(),
    "qwen2": {"attn_q", "attn_k", "attn_v"},
    "qwen3": set(),
}


@dataclass(frozen=True)
class Architecture:
    """A model as a GGUF file describes it; `metadata` are its keys, without the vocabulary's."""

    model_type: str
    metadata: Metadata
    layers: int
    heads: int
    key_heads: int
    rows: int
    """Of the embedding: at least as many as the tokenizer has tokens."""
    tied: bool
    rope_divisors: npt.NDArray[np.float32] | None
    """Llama 3's scaling of the rotary frequencies, `[head_dim / 2]`."""

    @property
    def family(self) -> Family:
        """How the family is kept in a GGUF file."""
        return FAMILIES[self.model_type]

    @property
    def names(self) -> set[str]:
        """The tensors that the model cannot be without, by GGUF's names; of biases none."""
        inner = set(INNER) - (NORMS if self.model_type != "qwen3" else set())
        outer = set(OUTER) - ({"output"} if self.tied else set())
        layers = {f"blk.{i}.{part}.weight" for i in range(self.layers) for part in inner}
        return layers | {f"{part}.weight" for part in outer}


def describe(folder: Path, *, name: str) -> Architecture:
    """What config.json and the card of a model folder say, as GGUF keys.

    Raises:
        ModelError: a family or a feature that llama.cpp does not compute; named.
    """
    told = read_config(folder)
    family = _family(told)
    config = _with_defaults(folder, told)
    rope = _rope(config)
    _require_computable(config, rope)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim") or width // heads
    theta = float(rope["rope_theta"])
    prefix = family.gguf_architecture
    rope_keys = gguf_rope.keys(rope, prefix)
    divisors = None
    if rope["rope_type"] == "llama3":
        _require_divisible(family)
        divisors = gguf_rope.llama3_divisors(rope, theta=theta, head_dim=head_dim)
    key_heads = config["num_key_value_heads"]
    shape: Metadata = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": width,
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": key_heads,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.freq_base": theta,
        "rope.dimension_count": head_dim,
        "vocab_size": config["vocab_size"],
    }
    return Architecture(
        model_type=config["model_type"],
        metadata={
            "general.type": "model",
            "general.name": name,
            **_card(folder),
            **{f"{prefix}.{key}": value for key, value in shape.items()},
            **rope_keys,
        },
        layers=config["num_hidden_layers"],
        heads=heads,
        key_heads=key_heads,
        rows=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        rope_divisors=divisors,
    )


def token_config(folder: Path) -> dict[str, Any]:
    """What config.json, and generation_config.json over it, say of tokens: where texts end."""
    path = folder / "generation_config.json"
    return read_config(folder) | (read_json(path) if path.is_file() else {})


def _family(told: Mapping[str, Any]) -> Family:
    model_type = str(told.get("model_type"))
    if model_type not in FAMILIES:
        near = nearest(model_type, FAMILIES)
        raise ModelError(
            f"cannot write models of the family {model_type!r} as GGUF",
            found="known: " + ", ".join(FAMILIES) + (f"; nearest: {near}" if near else ""),
            fix="nexa export --format safetensors",
        )
    return FAMILIES[model_type]


def _with_defaults(folder: Path, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with every number in it that a family may leave out."""
    own = OWN_DEFAULTS.get(told["model_type"], set())
    if own <= told.keys() and all(isinstance(told.get(name), int | float) for name in NUMBERS):
        return told
    # Only here: it brings the whole model library with it, and few configurations leave any out.
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        found: dict[str, Any] = AutoConfig.from_pretrained(folder).to_dict()
    except (ValueError, TypeError, KeyError, OSError, StrictDataclassError) as error:
        raise ModelError(f"cannot read {folder / 'config.json'}", found=str(error)) from error
    return found


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are rotated, in transformers' present spelling."""
    # Before 5 it wrote `rope_scaling` and `rope_theta`, since then `rope_parameters`.
    scaling = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    return {
        "rope_theta": config.get("rope_theta") or 10_000.0,
        "original_max_position_embeddings": config["max_position_embeddings"],
        **scaling,
        "rope_type": kind,
    }


def _require_computable(config: Mapping[str, Any], rope: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp computes otherwise for these families."""
    positions, window = config["max_position_embeddings"], _window(config)
    if window is not None and window < positions:
        raise ModelError(
            f"GGUF does not hold the sliding window of a {config['model_type']}",
            found=f"sliding_window: {window}, in texts of up to {positions} tokens",
            fix=f"set max_position_embeddings to {window} in config.json: up to there the window "
            "changes nothing",
        )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise ModelError(
            "llama.cpp computes these families with silu alone", found=f"hidden_act: {activation}"
        )
    part = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if part != 1.0:
        raise ModelError(
            "llama.cpp rotates the whole of each head in these families",
            found=f"partial_rotary_factor: {part}",
        )


def _require_divisible(family: Family) -> None:
    if family.gguf_architecture != "llama":
        raise ModelError(
            "llama.cpp computes Llama 3's rotary scaling for Llama and Mistral alone",
            found=f"rope_type: llama3 in a {family.architecture}",
        )


def _window(config: Mapping[str, Any]) -> int | None:
    if not config.get("use_sliding_window", True):
        return None
    window: int | None = config.get("sliding_window")
    return window


def _card(folder: Path) -> Metadata:
    """Licence and base models, where the folder's README.md names them in its front matter."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    text = readme.read_text(encoding="utf-8", errors="replace")
    head, mark, _ = text.removeprefix("---\n").partition("\n---")
    if not text.startswith("---\n") or not mark:
        return {}
    try:
        told = YAML(typ="safe").load(head)
    except YAMLError:  # a card's mistake is no reason to keep the model back
        return {}
    if not isinstance(told, dict):
        return {}
    licence, bases = told.get("license"), told.get("base_model")
    found: Metadata = {"general.license": licence} if isinstance(licence, str) else {}
    named = bases if isinstance(bases, list) else [bases]
    return found | _bases([base for base in named if isinstance(base, str)])


def _bases(names: Sequence[str]) -> Metadata:
    """The models that this one was made of, by their names on the Hub."""
    found: Metadata = {"general.base_model.count": len(names)} if names else {}
    for number, base in enumerate(names):
        owner, _, short = base.rpartition("/")
        found[f"general.base_model.{number}.name"] = short
        if owner:
            found[f"general.base_model.{number}.organization"] = owner
            found[f"general.base_model.{number}.repo_url"] = f"https://huggingface.co/{base}"
    return found
