"""A model folder's tokenizer, as transformers loads it, without waiting for what it is not made of.

`AutoTokenizer` builds the model's configuration first, whose class brings the model library with
it: over a second. All that it asks of that configuration is the model's type, which config.json
tells, wherever tokenizer_config.json names the tokenizer's class.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from nexa.core.errors import ModelError
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.lm.auto import auto_class
from nexa.lm.folder import is_tokenizer
from nexa.lm.resolve import ModelFiles

# By their files' digest: a folder and the copy of it that was just written have the same one.
_read: dict[str, PreTrainedTokenizerBase] = {}
KEPT = 4
_tokenizers: dict[str, PreTrainedTokenizerBase] = {}
_states: WeakKeyDictionary[Any, tuple[str, Mapping[str, Any]]] = WeakKeyDictionary()


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """What `AutoTokenizer.from_pretrained(folder)` gives; equal files give the same object.

    Raises:
        ValueError, OSError, KeyError, ImportError: transformers cannot build it.
    """
    config = _config(folder)
    if config is None:
        return _read_folder(folder, None)
    files = sorted(path for path in folder.iterdir() if is_tokenizer(path.name))
    told: dict[str, Any] = {path.name: sha256_bytes(path.read_bytes()) for path in files}
    key = sha256_bytes(canonical_json([told, config.model_type, config.tokenizer_class]))
    if key not in _read:
        while len(_read) >= KEPT:
            del _read[next(iter(_read))]
        _read[key] = _read_folder(folder, config)
    return _read[key]


def state_of(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, Any]:
    """What the tokenizer.json would hold of a fast tokenizer; not to be changed.

    Parsed again, which takes a fifth of a second, only where the tokenizer was changed.
    """
    backend: Any = tokenizer
    text = backend.backend_tokenizer.to_str()
    known, state = _states.get(tokenizer, ("", {}))
    if known != text:
        state = json.loads(text)
        _states[tokenizer] = text, state
    return state


def _read_folder(folder: Path, config: Any, *, trusted: bool = False) -> PreTrainedTokenizerBase:
    known = {} if config is None else {"config": config}
    found: PreTrainedTokenizerBase = auto_class("AutoTokenizer").from_pretrained(
        folder, local_files_only=True, trust_remote_code=trusted, **known
    )
    return found


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


def load_tokenizer(files: ModelFiles) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; equal files give the one tokenizer that is there already.

    Python code that the model brings is run if `files.trusted` says so, and never else.

    Raises:
        ModelError: transformers cannot build it.
    """
    parts = {name: sha for name, sha in files.files.items() if is_tokenizer(name)}
    # The class may hang on the model's type, and on whether its own code may be run.
    kind = {"model_type": files.config.get("model_type"), "trusted": str(files.trusted)}
    key = sha256_bytes(canonical_json({**parts, **kind}))
    if key not in _tokenizers:
        with view(files) as folder, quiet():
            try:
                config = None if files.trusted else _config(folder)
                tokenizer = _read_folder(folder, config, trusted=files.trusted)
            except (ValueError, OSError, KeyError, ImportError) as error:
                raise ModelError(
                    f"cannot load the tokenizer of {files.name}", found=first_line(error)
                ) from error
        tokenizer.name_or_path = files.name
        _tokenizers[key] = tokenizer
    return _tokenizers[key]


def release_tokenizers() -> None:
    """Forget every tokenizer that `load_tokenizer` gave."""
    _tokenizers.clear()


# -- what loading a model needs too --------------------------------------------------------------


@contextlib.contextmanager
def view(files: ModelFiles) -> Iterator[Path]:
    """A folder that shows the model's own files and nothing else.

    Beside an `adapter_config.json`, transformers would load another model than the one hashed.
    """
    with tempfile.TemporaryDirectory(prefix="nexa-model-") as view:
        for name in files.files:
            if not name.startswith("adapter/"):
                (Path(view) / name).symlink_to(files.folder / name)
        yield Path(view)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and warnings off the terminal, for the length of a block.

    What its loading report would warn of is an error here.
    """
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
