"""Write a model folder as one GGUF file, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """What was written: the type of each tensor, by GGUF's names, and where it is not the asked."""

    types: Mapping[str, str]
    fallbacks: Mapping[str, str]
    """Tensor -> why it has another type than the mix names."""
    size_bytes: int


def write_gguf(folder: Path, out: Path, *, quantization: str, name: str) -> Written:
    """Write `out` from a model folder (config, safetensors, tokenizer, chat template).

    `quantization` is a name of `mixes.MIXES`: f32, f16, bf16, q8_0, ..., q4_k_m. `name` becomes
    general.name.

    Raises:
        ModelError: a family, a tokenizer or a tensor that GGUF cannot hold; named.
        MissingExtra: a K-quant without the extra `gguf`.
    """
    raise NotImplementedError
