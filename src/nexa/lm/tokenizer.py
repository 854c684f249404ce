"""A model folder's tokenizer, as transformers loads it, without waiting for what it is not made of.

`AutoTokenizer` builds the model's configuration first, whose class brings the model library with
it: over a second. All that it asks of that configuration is the model's type, which config.json
tells, wherever tokenizer_config.json names the tokenizer's class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from nexa.core.identity import canonical_json, sha256_bytes
from nexa.lm.folder import is_tokenizer

# By their files' digest: a folder and the copy of it that was just written have the same one.
_read: dict[str, PreTrainedTokenizerBase] = {}
KEPT = 4


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """What `AutoTokenizer.from_pretrained(folder)` gives; equal files give the same object.

    Raises:
        ValueError, OSError, KeyError, ImportError: transformers cannot build it.
    """
    config = _config(folder)
    if config is None:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )
        return found
    files = sorted(path for path in folder.iterdir() if is_tokenizer(path.name))
    told: dict[str, Any] = {path.name: sha256_bytes(path.read_bytes()) for path in files}
    key = sha256_bytes(canonical_json([told, config.model_type, config.tokenizer_class]))
    if key not in _read:
        while len(_read) >= KEPT:
            del _read[next(iter(_read))]
        _read[key] = AutoTokenizer.from_pretrained(folder, local_files_only=True, config=config)
    return _read[key]


def _config(folder: Path) -> Any:
    """The configuration to choose the class by; None where more of it is needed than its type."""
    told, own = (_object(folder / name) for name in ("config.json", "tokenizer_config.json"))
    if "model_type" not in told or "tokenizer_class" not in own:
        return None
    if "auto_map" in told or "auto_map" in own:
        return None
    config: Any = PreTrainedConfig()
    config.name_or_path = str(folder)
    config.model_type = told["model_type"]
    config.tokenizer_class = told.get("tokenizer_class")
    return config


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, which transformers is left to tell."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
