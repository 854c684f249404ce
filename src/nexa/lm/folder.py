"""What a model folder must hold, and the digests of the files that make the model.

Weights are safetensors or nothing: a pickle runs code when it is opened.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, ModelError
from nexa.core.identity import sha256_file
from nexa.lm import derived

# The files that decide what a model answers: they, and no others, enter its digest.
WEIGHT_PATTERNS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
CONFIG_PATTERNS = ("config.json", "generation_config.json")
TOKENIZER_PATTERNS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
MODEL_PATTERNS = (*WEIGHT_PATTERNS, *CONFIG_PATTERNS, *TOKENIZER_PATTERNS)
CODE_PATTERNS = ("*.py",)  # only when the user trusts the model's own code
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_digests: dict[tuple[str, int, int], Future[str]] = {}
_asking = threading.Lock()


def digest(path: Path) -> str:
    """sha256 of a file, read once a process for as long as its size and time stay the same."""
    real = path.resolve()
    stat = real.stat()
    key = (str(real), stat.st_size, stat.st_mtime_ns)
    with _asking:
        known = _digests.get(key)
        taken = _digests[key] = known or Future()
    if known is None:
        try:
            taken.set_result(sha256_file(real))
        except BaseException as error:
            del _digests[key]
            taken.set_exception(error)
            raise
    return taken.result()


def begin_hashing(folders: Iterable[Path]) -> None:
    """Take the digests of their weights in a thread that nobody needs to wait for.

    `digest` waits for a file that is being read. What cannot be read is told to who asks for it.
    """
    files = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]

    def work() -> None:
        for path in files:
            with contextlib.suppress(OSError):
                digest(path)

    threading.Thread(target=work, name="hashing", daemon=True).start()


def hash_ahead(folders: Iterable[Path]) -> None:
    """Take the digests of several folders' weights side by side, for `digests` to find."""
    files = [path for folder in folders for path in folder.glob("*.safetensors")]
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
        for _ in pool.map(digest, files):
            pass


def digests(folder: Path, *, trust_remote_code: bool = False) -> dict[str, str]:
    """Name -> sha256 of the files of a folder that make the model, sorted by name.

    Raises:
        ModelError: no config, no safetensors, a shard or the tokenizer is missing, weights are
            pickles, quantised in a way that cannot be read, or the model brings its own code.
        IntegrityError: a derived copy is not what it was when it was made.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    patterns = MODEL_PATTERNS + (CODE_PATTERNS if trust_remote_code else ())
    if "config.json" not in names:
        raise _not_a_model(folder, names)
    _require_plain(folder, names, trust_remote_code=trust_remote_code)
    weights = _weights(folder, names)
    kept = [
        name
        for name in names
        if name in weights or (not is_weight(name) and _matches(name, patterns))
    ]
    if not {"tokenizer.json", "tokenizer.model", "vocab.json"} & set(kept):
        raise ModelError(f"{folder.name} has no tokenizer", found=_list(names))
    with ThreadPoolExecutor() as pool:
        found = dict(zip(kept, pool.map(lambda name: digest(folder / name), kept), strict=True))
    _compare_with_marker(folder, found)
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as data; raises as `read_json` does."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelError: it is not JSON, or not an object.
    """
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}", found=str(error)) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not an object", found=type(config).__name__)
    return config


def weight_files(names: Iterable[str]) -> list[str]:
    """Those of `names` that hold tensors of the model itself, sorted."""
    return sorted(name for name in names if is_weight(name) and name.endswith(".safetensors"))


def is_weight(name: str) -> bool:
    """Whether a file has to do with the weights: tensors, or the index of them."""
    return _matches(name, WEIGHT_PATTERNS)


def is_tokenizer(name: str) -> bool:
    """Whether a file has to do with the tokenizer and the chat template."""
    return _matches(name, TOKENIZER_PATTERNS)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter and no model of its own."""
    return (
        all((folder / name).is_file() for name in ADAPTER_FILES)
        and not (folder / "config.json").exists()
    )


def _not_a_model(folder: Path, names: list[str]) -> ModelError:
    ggufs = [name for name in names if name.endswith(".gguf")]
    fix = f"name the file itself: {folder / ggufs[0]}" if ggufs else None
    return ModelError(
        f"{folder} is not a model folder: it has no config.json", found=_list(names), fix=fix
    )


def _require_plain(folder: Path, names: list[str], *, trust_remote_code: bool) -> None:
    """Refuse what would run code of the model's own, and weights that are no plain numbers."""
    for name in {"config.json", "tokenizer_config.json"} & set(names):
        config = read_json(folder / name)
        if "auto_map" in config and not trust_remote_code:
            raise ModelError(
                f"{folder.name} brings Python code of its own, which would run on this machine",
                found=f"auto_map in its {name}: {_list(sorted(config['auto_map']))}",
                fix="choose a model that transformers knows by itself: this version runs such code "
                "in no training (model.trust_remote_code: true)",
            )
    quantised = read_config(folder).get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "an unnamed method")
        raise ModelError(
            f"the weights of {folder.name} are quantised with {method}, which cannot be trained on",
            fix="use the model's original weights",
        )


def _weights(folder: Path, names: list[str]) -> set[str]:
    """The weight files that transformers would load: one file, or an index and its shards."""
    if "model.safetensors" in names:
        return {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.name in names:
        try:
            wanted = set(read_json(index)["weight_map"].values())
        except (KeyError, AttributeError) as error:
            raise ModelError(f"{index} is not an index of weights", found=f"{error!r}") from error
        missing = sorted(wanted - set(names))
        if missing:
            raise ModelError(
                f"{folder.name} is not whole: {len(missing)} of {len(wanted)} weight files missing",
                found=_list(missing),
                fix="download or copy it again",
            )
        return {index.name, *wanted}
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise ModelError(
            f"the weights of {folder.name} are pickles, which run code when they are opened",
            found=_list(pickles),
            fix="save it with `save_pretrained` of transformers where you trust it: safetensors",
        )
    raise ModelError(f"{folder.name} has no model.safetensors", found=_list(names))


def _compare_with_marker(folder: Path, found: dict[str, str]) -> None:
    made = derived.about(folder).get("files", found)
    changed = sorted(name for name in made if made[name] != found.get(name))
    if changed:
        raise IntegrityError(
            f"{folder} is not what was made: {_list(changed)} changed",
            fix=f"delete {folder}: it is made again",
        )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _list(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more
