"""The folder that training leaves to the user: the model, its adapter, and who it is.

    output/
      model.safetensors config.json generation_config.json tokenizer...   the merged model
      adapter/adapter_model.safetensors, adapter/adapter_config.json      the adapter alone
      report.html
      final_model.json     base, method, data, losses, verdict, run id, and the files' digests

The adapter has a folder of its own: beside a config.json, transformers would load the merged
weights and then apply the adapter to them a second time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.store import require_space, storage_error, write_atomic

CARD = "final_model.json"


def check_output(folder: Path) -> None:
    """Refuse, before any work, a folder whose contents are not Nexa's to replace.

    Raises:
        StorageError: the folder holds files and no final_model.json.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, not a folder", fix="set training.output_dir")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).exists():
        strangers = ", ".join(sorted(p.name for p in folder.iterdir())[:5])
        raise StorageError(
            f"{folder} holds files that nexa did not put there",
            found=strangers,
            fix="set training.output_dir to an empty or a new folder",
        )


def write_output(folder: Path, files: Mapping[str, Path], facts: Mapping[str, Any]) -> None:
    """Make `folder` hold exactly `files` (name -> source) and final_model.json, which goes last.

    What an earlier run left there is replaced; a file that is already the same is not written.
    """
    before = set(read_output(folder).get("files", {})) if (folder / CARD).exists() else set()
    digests = {name: sha256_file(source) for name, source in sorted(files.items())}
    size = sum(source.stat().st_size for source in files.values())
    require_space(folder, size, f"the trained model in {folder}")
    for name, source in files.items():
        target = folder / name
        if not (target.exists() and sha256_file(target) == digests[name]):
            _copy(source, target)
        emit("saved", path=str(target), size_bytes=target.stat().st_size)
    for name in before - set(files):
        (folder / name).unlink(missing_ok=True)
    card = {**facts, "files": digests}
    data = (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()
    write_atomic(folder / CARD, data)
    emit("saved", path=str(folder / CARD), size_bytes=len(data))


def read_output(folder: Path) -> dict[str, Any]:
    """final_model.json of a folder that training left.

    Raises:
        IntegrityError: it is not there, or is not one.
    """
    path = folder / CARD
    try:
        facts = json.loads(path.read_bytes())
        if not isinstance(facts, dict) or "run_id" not in facts:
            raise ValueError("it names no run")
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{folder} is not what `nexa train` leaves: it has no {CARD}",
            fix="nexa train config.yaml   then   nexa publish --repo OWNER/NAME",
        ) from error
    except (OSError, ValueError) as error:
        raise IntegrityError(f"cannot read {path}", found=str(error)) from error
    return facts


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: what the user does to it must never reach the store."""
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, aside)
        aside.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        aside.unlink(missing_ok=True)
