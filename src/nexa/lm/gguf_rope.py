"""How a GGUF file says that a model's rotary positions are scaled: both ways.

llama.cpp knows `linear` and `yarn` by keys. Llama 3's scaling it knows only as a tensor of
divisors, one for each pair of a head; the numbers that they come from are kept beside it under
keys of Nexa's own, which llama.cpp passes over.

Source of the divisors: the Llama 3.1 model card's `apply_scaling`; of the keys, the GGUF
specification, "rope.scaling".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nexa.core.errors import ModelError

TENSOR = "rope_freqs.weight"
OWN = "nexa.rope.llama3."
# What every Llama 3.x was scaled with, but for the factor.
LLAMA3: dict[str, float] = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"beta_fast": 32.0, "beta_slow": 1.0}
# What each scaling cannot be without.
NEEDED: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", *LLAMA3),
}
ELSEWHERE = "use the model's safetensors: a folder or a Hub id"


def llama3_divisors(
    rope: Mapping[str, Any], *, theta: float, head_dim: int
) -> npt.NDArray[np.float32]:
    """What Llama 3's scaling divides each frequency by, `[head_dim / 2]`.

    Wavelengths (in tokens) below `original / high_freq_factor` stay, those beyond
    `original / low_freq_factor` are stretched by `factor`, and what lies between is mixed.
    """
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    pairs = np.arange(0, head_dim, 2, dtype=np.float64)
    turns = original / (2 * math.pi * theta ** (pairs / head_dim))
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (share + (1 - share) / factor)).astype(np.float32)


def keys(rope: Mapping[str, Any], architecture: str) -> dict[str, float | int | str]:
    """The keys of a scaled model's metadata; `rope` are transformers' `rope_parameters`.

    Raises:
        ModelError: a scaling that llama.cpp does not compute, or that is told only in part.
    """
    prefix = f"{architecture}.rope.scaling."
    missing = [name for name in NEEDED.get(rope["rope_type"], ()) if rope.get(name) is None]
    if missing:
        raise ModelError(
            f"the configuration of the rotary scaling {rope['rope_type']} is not whole",
            found=f"no {', '.join(missing)}",
        )
    match rope["rope_type"]:
        case "default":
            return {}
        case "linear":
            return {prefix + "type": "linear", prefix + "factor": float(rope["factor"])}
        case "llama3":
            return {OWN + name: float(rope[name]) for name in ("factor", *LLAMA3)}
        case "yarn":
            return _yarn_keys(rope, prefix)
        case kind:
            raise ModelError(
                f"GGUF does not hold the rotary scaling {kind!r}",
                found="it holds linear, yarn and llama3",
            )


def parameters(
    metadata: Mapping[str, Any], *, theta: float, divisors: npt.NDArray[np.float32] | None
) -> dict[str, Any] | None:
    """A GGUF file's scaling as transformers' `rope_parameters`, None where nothing is scaled.

    `divisors` is the file's tensor of them, if it has one.

    Raises:
        ModelError: a scaling that transformers cannot be told, or divisors of another origin.
    """
    prefix = f"{metadata['general.architecture']}.rope.scaling."
    kind = metadata.get(prefix + "type", "none")
    factor = float(metadata.get(prefix + "factor", 1.0))
    if divisors is not None and not np.all(divisors == 1):
        return _llama3(metadata, divisors, theta=theta)
    if kind == "none":
        return None
    told: dict[str, Any] = {"rope_type": kind, "rope_theta": theta, "factor": factor}
    if kind == "linear":
        return told
    if kind == "yarn" and prefix + "original_context_length" in metadata:
        original = int(metadata[prefix + "original_context_length"])
        betas = {
            name: float(metadata.get(f"{prefix}yarn_{name}", usual)) for name, usual in YARN.items()
        }
        return told | {"original_max_position_embeddings": original} | betas
    raise ModelError(
        f"this GGUF file scales its rotary positions ({kind}), which is not carried over",
        fix=ELSEWHERE,
    )


def _yarn_keys(rope: Mapping[str, Any], prefix: str) -> dict[str, float | int | str]:
    own = [name for name in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(name)]
    if rope.get("truncate") is False:
        own.append("truncate")
    if own:
        raise ModelError(
            "GGUF does not hold this form of yarn's rotary scaling", found=", ".join(own)
        )
    return {
        prefix + "type": "yarn",
        prefix + "factor": float(rope["factor"]),
        prefix + "original_context_length": int(rope["original_max_position_embeddings"]),
        **{f"{prefix}yarn_{name}": float(rope.get(name) or usual) for name, usual in YARN.items()},
    }


def _llama3(
    metadata: Mapping[str, Any], divisors: npt.NDArray[np.float32], *, theta: float
) -> dict[str, Any]:
    """The numbers behind the divisors; they must give exactly these again."""
    rope: dict[str, Any] = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": float(metadata.get(OWN + "factor", divisors.max())),
        **{name: float(metadata.get(OWN + name, usual)) for name, usual in LLAMA3.items()},
    }
    rope["original_max_position_embeddings"] = int(rope["original_max_position_embeddings"])
    again = llama3_divisors(rope, theta=theta, head_dim=2 * divisors.size)
    # Converters compute them in float32 throughout.
    if not np.allclose(again, divisors.ravel(), rtol=1e-5):
        raise ModelError(
            "this GGUF file has rotary factors of its own, which are not carried over",
            found=f"{TENSOR}, from {divisors.min():g} to {divisors.max():g}, is not Llama 3's",
            fix=ELSEWHERE,
        )
    return rope
