"""What a model folder needs beside its weights, so that plain transformers loads and stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from nexa.lm.folder import TOKENIZER_PATTERNS
from nexa.weights.tensors import Weights, shards

SHARD_BYTES = 4 << 30  # one file below it; memory while writing stays below it above
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# A dequantised or exported model is none of these any more.
STALE_CONFIG = ("torch_dtype", "quantization_config", "_name_or_path")


def tied_names(folder: Path) -> dict[str, str]:
    """Which weights the config ties to which; empty when it ties none.

    The model is built without memory, only to be asked.
    """
    config = AutoConfig.from_pretrained(folder)
    if not config.tie_word_embeddings:
        return {}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return dict(model.all_tied_weights_keys)


def write_weights(
    weights: Weights, out: Path, *, dtype: str, limit_bytes: int = SHARD_BYTES
) -> None:
    """Write safetensors rounded once from float32: one file, or shards with their index."""
    kind: torch.dtype = getattr(torch, dtype)
    parts: list[tuple[Path, list[str]]] = []
    total = 0
    for number, group in enumerate(shards(weights, dtype=kind, limit_bytes=limit_bytes), 1):
        path = out / f"model-{number:05d}.safetensors"
        save_file(dict(group), path, metadata={"format": "pt"})
        parts.append((path, list(group)))
        total += sum(tensor.nbytes for tensor in group.values())
    if len(parts) == 1:
        parts[0][0].rename(out / SINGLE)
        return
    weight_map: dict[str, str] = {}
    for number, (path, names) in enumerate(parts, 1):
        final = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        path.rename(out / final)
        weight_map |= dict.fromkeys(names, final)
    write_json(out / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_config(config: Mapping[str, Any], out: Path, *, dtype: str, tie: bool) -> None:
    """config.json of the base with the type of the new weights and whether embeddings are tied."""
    kept = {key: value for key, value in config.items() if key not in STALE_CONFIG}
    write_json(out / "config.json", kept | {"dtype": dtype, "tie_word_embeddings": tie})


def write_generation_config(base: Path, out: Path, *, stop_ids: Iterable[int]) -> None:
    """generation_config.json of the base, stopping at the chat template's end of turn too.

    A model whose end of turn is not listed here runs on to the token limit in every server.
    """
    path = base / "generation_config.json"
    source = path if path.exists() else base / "config.json"
    found = json.loads(source.read_bytes())
    if source is not path:
        found = {key: found[key] for key in TOKEN_KEYS if found.get(key) is not None}
    eos = found.get("eos_token_id")
    listed = eos if isinstance(eos, list) else [] if eos is None else [eos]
    stops = list(dict.fromkeys([*listed, *stop_ids]))
    found.pop("_from_model_config", None)
    write_json(
        out / "generation_config.json",
        found | {"eos_token_id": stops[0] if len(stops) == 1 else stops},
    )


TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def copy_tokenizer(base: Path, files: Iterable[str], out: Path) -> None:
    """Tokenizer and chat template, byte for byte; `files` are the names of the model's files."""
    for name in files:
        if name in TOKENIZER_PATTERNS:
            shutil.copyfile(base / name, out / name)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a last line break, as model folders have it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
