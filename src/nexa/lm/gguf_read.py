"""A GGUF file -> a folder that plain transformers loads: safetensors, config, tokenizer.

The metadata is parsed once and names are mapped once; tensors go to the disk one by one, so that
the memory needed is that of the largest, not of the model. Weights are written as float32, the
exact values that the quantised blocks stand for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, dequantize

from nexa.core import events
from nexa.core.errors import ModelError, nearest
from nexa.core.identity import sha256_file
from nexa.lm import derived, gguf_rope
from nexa.lm.gguf_config import config_of, generation_config_of
from nexa.lm.gguf_names import MODEL_TYPES, pairs_to_halves, rotated_heads, to_transformers

# Raised when the files that `convert` writes change; it is part of the cache's key.
CONVERSION = 2
PLAIN = {"F32", "F16", "BF16", "F64"}


def key_of(sha256: str) -> str:
    """The cache key of what is made of the GGUF file with this digest."""
    return f"gguf-{sha256[:16]}-{CONVERSION}"


def derive(source: Path, *, sha256: str | None = None) -> Path:
    """The safetensors folder made of a GGUF file; made once, kept in the user's cache.

    `sha256` is the file's digest, if it is known already.

    Raises:
        ModelError: not a GGUF file, or a model that this cannot turn into safetensors.
        StorageError: no space for the copy.
    """
    digest = sha256 or sha256_file(source)
    found = derived.find(key_of(digest))
    if found is not None:
        return found
    gguf = GgufModel.open(source)

    def make(folder: Path) -> dict[str, Any]:
        gguf.write(folder)
        return {"quantisation": gguf.quantisation, "source_sha256": digest}

    return derived.keep(
        key_of(digest), make, size_bytes=gguf.size_bytes, purpose=f"{source.name} as safetensors"
    )


@dataclass(frozen=True)
class Plan:
    """One tensor: from which place of the file to which name and shape."""

    name: str
    shape: tuple[int, ...]
    quantisation: GGMLQuantizationType
    data: npt.NDArray[Any]
    heads: int | None
    """The heads whose rows stand in pair order, None when none do."""

    def read(self) -> npt.NDArray[np.float32]:
        """The tensor as float32, in transformers' row order."""
        values = dequantize(self.data, self.quantisation).reshape(self.shape)
        return values if self.heads is None else pairs_to_halves(values, self.heads)


@dataclass(frozen=True)
class GgufModel:
    """A GGUF file's metadata and the plan of its tensors; no weight is read before it is asked."""

    name: str
    metadata: dict[str, Any]
    plans: tuple[Plan, ...]
    rope_divisors: npt.NDArray[np.float32] | None = None
    """Llama 3's scaling of the rotary frequencies, `[head_dim / 2]`."""

    @staticmethod
    def open(source: Path) -> GgufModel:
        """Parse a GGUF file.

        Raises:
            ModelError: not a GGUF file, torn, or of a family that this does not know.
        """
        try:
            reader = GGUFReader(source)
            metadata = {name: field.contents() for name, field in reader.fields.items()}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ModelError(
                f"cannot read {source.name} as GGUF", found=f"{type(error).__name__}: {error}"
            ) from error
        _require_family(source.name, metadata)
        plans, divisors = _plan(source.name, metadata, reader)
        return GgufModel(source.name, metadata, plans, divisors)

    @property
    def model_type(self) -> str:
        """The transformers family that it is read as."""
        return MODEL_TYPES[self.metadata["general.architecture"]]

    @property
    def size_bytes(self) -> int:
        """What the folder takes on the disk, with room for the tokenizer."""
        return 4 * sum(math.prod(plan.shape) for plan in self.plans) + (32 << 20)

    @cached_property
    def quantisation(self) -> str | None:
        """The kind of block most weights are kept in, e.g. `Q4_1`; None for plain floats."""
        sizes: dict[str, int] = {}
        for plan in self.plans:
            kind = plan.quantisation.name
            sizes[kind] = sizes.get(kind, 0) + math.prod(plan.shape)
        kind = max(sizes, key=lambda kind: sizes[kind])
        return None if kind in PLAIN else kind

    def write(self, folder: Path) -> None:
        """Write the model as transformers' own files into an empty folder."""
        # Only here: whoever finds the copy made already needs neither torch nor transformers.
        import torch

        from nexa.lm.gguf_tokenizer import write_tokenizer
        from nexa.lm.safetensors_files import SafetensorsWriter, Slot

        shapes = {plan.name: plan.shape for plan in self.plans}
        config = config_of(self.metadata, self.model_type, shapes, self.rope_divisors)
        _write_json(folder / "config.json", config)
        _write_json(folder / "generation_config.json", generation_config_of(self.metadata))
        write_tokenizer(folder, self.metadata)
        slots = [Slot(plan.name, torch.float32, plan.shape) for plan in self.plans]
        # In the file's own order, which the digests of earlier copies have.
        writer = SafetensorsWriter(
            folder, slots, limit_bytes=self.size_bytes, as_given=True, durable=False
        )
        with events.progress("dequantising", self.size_bytes / 1e6, "MB") as bar, writer:
            for plan in self.plans:
                values = np.require(plan.read(), "<f4", ["C_CONTIGUOUS", "WRITEABLE"])
                writer.write(plan.name, torch.from_numpy(values))
                bar.advance(values.nbytes / 1e6)


def _require_family(name: str, metadata: dict[str, Any]) -> None:
    architecture = str(metadata.get("general.architecture"))
    if architecture not in MODEL_TYPES:
        near = nearest(architecture, MODEL_TYPES)
        raise ModelError(
            f"{name} is of the family {architecture!r}, which cannot be turned into safetensors",
            found="known: " + ", ".join(MODEL_TYPES) + (f"; nearest: {near}" if near else ""),
            fix="use the model's safetensors: a folder or a Hub id",
        )


def _plan(
    name: str, metadata: dict[str, Any], reader: GGUFReader
) -> tuple[tuple[Plan, ...], npt.NDArray[np.float32] | None]:
    architecture = metadata["general.architecture"]
    heads = int(metadata[f"{architecture}.attention.head_count"])
    key_heads = int(metadata.get(f"{architecture}.attention.head_count_kv", heads))
    plans: list[Plan] = []
    unknown: list[str] = []
    divisors = None
    for tensor in reader.tensors:
        theirs = to_transformers(tensor.name)
        if tensor.name == gguf_rope.TENSOR:
            divisors = np.array(tensor.data, dtype=np.float32)
        elif theirs is None:
            unknown.append(tensor.name)
        else:
            rotated = rotated_heads(
                tensor.name, MODEL_TYPES[architecture], heads=heads, key_heads=key_heads
            )
            # GGUF lists the fastest-moving dimension first.
            shape = tuple(int(size) for size in reversed(tensor.shape))
            plans.append(Plan(theirs, shape, tensor.tensor_type, tensor.data, rotated))
    if unknown or not plans:
        raise ModelError(
            f"{name} has tensors that a {architecture} does not have"
            if unknown
            else f"{name} has no tensors",
            found=_some(unknown) or None,
            fix="use the model's safetensors: a folder or a Hub id",
        )
    return tuple(plans), divisors


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
