"""What a model folder needs beside its weights, so that plain transformers loads and stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from nexa.lm.decoder.model import EMBEDDING, HEAD
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.folder import TOKENIZER_PATTERNS, read_config
from nexa.lm.safetensors_files import SafetensorsWriter, Slot
from nexa.weights.tensors import Weights

SHARD_BYTES = 4 << 30  # one file up to it
# A dequantised or exported model is none of these any more.
STALE_CONFIG = ("torch_dtype", "quantization_config", "_name_or_path")


def tied_names(folder: Path) -> dict[str, str]:
    """Which weights the config ties to which; empty when it ties none.

    A model that the decoder does not know is built without memory, only to be asked.
    """
    try:
        return {HEAD: EMBEDDING} if shape_of(read_config(folder)).tied else {}
    except UnsupportedDecoder:
        return _asked_tied_names(folder)


def _asked_tied_names(folder: Path) -> dict[str, str]:
    # Only here: importing them takes longer than most models take to be merged.
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    if not config.tie_word_embeddings:
        return {}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return dict(model.all_tied_weights_keys)


def write_weights(
    weights: Weights, out: Path, *, dtype: str, limit_bytes: int = SHARD_BYTES
) -> None:
    """Write safetensors rounded once from float32: one file, or shards with their index.

    Tensor by tensor: what is in memory beside `weights` is the one under way.
    """
    kind: torch.dtype = getattr(torch, dtype)
    slots = [Slot(name, kind, weights.shape(name)) for name in weights.names]
    # Not flushed to the disk: the store flushes the copy that it keeps.
    with SafetensorsWriter(out, slots, limit_bytes=limit_bytes, durable=False) as writer:
        for name in weights.names:
            writer.write(name, weights.tensor(name))


def write_config(config: Mapping[str, Any], out: Path, *, dtype: str, tie: bool) -> None:
    """config.json of the base with the type of the new weights and whether embeddings are tied."""
    kept = {key: value for key, value in config.items() if key not in STALE_CONFIG}
    write_json(out / "config.json", kept | {"dtype": dtype, "tie_word_embeddings": tie})


def config_differences(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """What a written config.json says otherwise than its base's, which it may not: names."""
    own = (*STALE_CONFIG, "dtype", "tie_word_embeddings")
    keys = sorted((set(config) | set(base)) - set(own))
    missing = object()
    return [key for key in keys if config.get(key, missing) != base.get(key, missing)]


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
