"""The step: a whole model in another form (safetensors in another type, GGUF), with its proof."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nexa.core.identity import where
from nexa.core.records import Artifact, Draft, ExportBody
from nexa.core.store import Store
from nexa.lm.resolve import ModelFiles
from nexa.weights.folder import SHARD_BYTES


@dataclass(frozen=True)
class ConvertSpec:
    """Which model, and into what."""

    model: ModelFiles
    format: Literal["safetensors", "gguf"]
    dtype: str
    """Of safetensors: bfloat16, float16, float32. Of GGUF: its quantisation, as `q4_k_m`."""
    shard_bytes: int = SHARD_BYTES
    name: str = where(default="exported")
    scratch: Path | None = where(default=None)


def convert(
    spec: ConvertSpec, *, export: Artifact[ExportBody] | None, store: Store
) -> Draft[ExportBody]:
    """Write the model in another form and prove that it is the same model.

    `export` is the sealed record of `spec.model`, where it has one.
    """
    raise NotImplementedError
