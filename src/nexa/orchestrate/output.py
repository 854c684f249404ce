"""The folder that training leaves to the user: the model, its adapter, and who it is.

    output/
      model.safetensors config.json generation_config.json tokenizer...   the merged model
      adapter/adapter_model.safetensors, adapter/adapter_config.json      the adapter alone
      parity.json          that the merged model is the trained one
      final_model.json     base, method, data, losses, verdict, run id, and the files' digests

The adapter has a folder of its own: beside a config.json, transformers would load the merged
weights and then apply the adapter to them a second time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.store import require_space, storage_error, write_atomic

CARD = "final_model.json"
UNFINISHED = "unfinished"  # a key of the card while files are being written


def check_output(folder: Path) -> None:
    """Refuse, before any work, a folder whose contents are not Nexa's to replace.

    Raises:
        StorageError: the folder holds files and no final_model.json.
        IntegrityError: its final_model.json is not one.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, not a folder", fix="set training.output_dir")
    if (folder / CARD).exists():
        _read_card(folder)
    elif folder.is_dir() and (strangers := _strangers(folder)):
        raise StorageError(
            f"{folder} holds files that nexa did not put there",
            found=", ".join(strangers[:5]),
            fix="set training.output_dir to an empty or a new folder",
        )


def _strangers(folder: Path) -> list[str]:
    """What lies in it and is not another run's output, in a folder of its own (output/NAME)."""
    return sorted(path.name for path in folder.iterdir() if not (path / CARD).is_file())


def write_output(folder: Path, files: Mapping[str, Path], facts: Mapping[str, Any]) -> None:
    """Make `folder` hold `files` (name -> source) and final_model.json, which tells of them.

    What an earlier run left there is replaced; a file that is already the same is not written.
    The card goes first, marked as unfinished, and last: a folder whose writing was stopped is
    known as Nexa's own to the next run, and is not published.
    """
    digests = {name: sha256_file(source) for name, source in sorted(files.items())}
    before = _read_card(folder)["files"] if (folder / CARD).exists() else {}
    size = sum(source.stat().st_size for source in files.values())
    require_space(folder, size, f"the trained model in {folder}")
    card = {**facts, "files": digests}
    # Files of the run before that are not of this one are named until they are gone.
    _write_card(folder, {**card, "files": {**before, **digests}, UNFINISHED: True})
    for name, source in files.items():
        target = folder / name
        if not (target.is_file() and sha256_file(target) == digests[name]):
            _copy(source, target)
        emit("saved", path=str(target), size_bytes=target.stat().st_size)
    for name in set(before) - set(files):
        (folder / name).unlink(missing_ok=True)
    size_bytes = _write_card(folder, card)
    emit("saved", path=str(folder / CARD), size_bytes=size_bytes)


def read_output(folder: Path) -> dict[str, Any]:
    """final_model.json of a folder that training left.

    Raises:
        IntegrityError: it is not there, is not one, or its files were not all written.
    """
    facts = _read_card(folder)
    if UNFINISHED in facts:
        raise IntegrityError(
            f"{folder} is not whole: run {facts['run_id']} was stopped while it wrote it",
            fix="run nexa train again: what was made before is reused",
        )
    return facts


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        facts: Any = json.loads(path.read_bytes())
        if not isinstance(facts, dict) or not isinstance(facts.get("run_id"), str):
            raise ValueError("it names no run")
        if not _is_file_list(facts.get("files")):
            raise ValueError("it names no files of this folder")
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{folder} is not what `nexa train` leaves: it has no {CARD}",
            fix="nexa train config.yaml   then   nexa publish --repo OWNER/NAME",
        ) from error
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"cannot read {path}", found=str(error), fix=f"empty {folder}, then nexa train again"
        ) from error
    return facts


def _is_file_list(files: Any) -> bool:
    """Names inside the folder with their digests: a name that leads out of it could be removed."""
    return isinstance(files, dict) and not any(
        PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files
    )


def _write_card(folder: Path, card: Mapping[str, Any]) -> int:
    data = (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()
    write_atomic(folder / CARD, data)
    return len(data)


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: what the user does to it must never reach the store."""
    aside = target.with_name(f".{target.name}.new")  # one name: a stopped run's is written over
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, aside)
        aside.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written has no leftover
            aside.unlink()
