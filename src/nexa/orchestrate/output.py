"""The folders that Nexa leaves to the user: what a training made, and what was exported.

    output/
      model.safetensors config.json generation_config.json tokenizer...   the merged model
      adapter/adapter_model.safetensors, adapter/adapter_config.json      the adapter alone
      parity.json          that the merged model is the trained one
      final_model.json     base, method, data, losses, verdict, run id, and the files' digests

The adapter has a folder of its own: beside a config.json, transformers would load the merged
weights and then apply the adapter to them a second time. What `nexa export` and `nexa merge` leave
has export.json in the place of final_model.json.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.store import require_space, storage_error, write_atomic

UNFINISHED = "unfinished"  # a key of the card while files are being written


@dataclass(frozen=True)
class Card:
    """The file by which a folder is known as Nexa's own, and what is told where it is amiss."""

    name: str
    what: str
    """What such a folder holds."""
    left_by: str
    """What leaves one."""
    elsewhere: str
    """How another folder is chosen."""
    again: str
    """What writes it once more."""
    make: str
    """How to come by one."""


TRAINED = Card(
    "final_model.json",
    what="the trained model",
    left_by="`nexa train` leaves",
    elsewhere="set training.output_dir to",
    again="nexa train",
    make="nexa train config.yaml   then   nexa publish --repo OWNER/NAME",
)
EXPORTED = Card(
    "export.json",
    what="the exported model",
    left_by="`nexa export` or `nexa merge` leaves",
    elsewhere="--output with",
    again="the same command",
    make="nexa export --output FOLDER MODEL",
)
CARD = TRAINED.name


def check_output(folder: Path, card: Card = TRAINED) -> None:
    """Refuse, before any work, a folder whose contents are not Nexa's to replace.

    Raises:
        StorageError: the folder holds files and no card of this kind.
        IntegrityError: its card is not one.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, not a folder", fix=f"{card.elsewhere} a folder")
    if (folder / card.name).exists():
        _read_card(folder, card)
    elif folder.is_dir() and (strangers := _strangers(folder)):
        other = next((c for c in (TRAINED, EXPORTED) if c.name in strangers), None)
        raise StorageError(
            f"{folder} holds what {other.left_by}"
            if other
            else f"{folder} holds files that nexa did not put there",
            found=", ".join(strangers[:5]),
            fix=f"{card.elsewhere} an empty or a new folder",
        )


def _strangers(folder: Path) -> list[str]:
    """What lies in it and is not another run's output, in a folder of its own (output/NAME)."""
    own = (TRAINED.name, EXPORTED.name)
    return sorted(
        path.name for path in folder.iterdir() if not any((path / name).is_file() for name in own)
    )


def write_output(
    folder: Path,
    files: Mapping[str, Path],
    facts: Mapping[str, Any],
    card: Card = TRAINED,
    *,
    sealed: Mapping[str, str] | None = None,
) -> None:
    """Make `folder` hold `files` (name -> source) and the card, which tells `facts` of them.

    What an earlier run left there is replaced; a file that is already the same is not written.
    The card goes first, marked as unfinished, and last: a folder whose writing was stopped is
    known as Nexa's own to the next run, and is not published. `sealed` has the digests of files
    that a record names: they are not read once more for it.
    """
    digests = {
        name: (sealed or {}).get(name) or sha256_file(source)
        for name, source in sorted(files.items())
    }
    before = _read_card(folder, card)["files"] if (folder / card.name).exists() else {}
    size = sum(source.stat().st_size for source in files.values())
    require_space(folder, size, f"{card.what} in {folder}")
    told = {**facts, "files": digests}
    # Files of the run before that are not of this one are named until they are gone.
    _write_card(folder, card, {**told, "files": {**before, **digests}, UNFINISHED: True})
    for name, source in files.items():
        target = folder / name
        if not (target.is_file() and sha256_file(target) == digests[name]):
            _copy(source, target)
        emit("saved", path=str(target), size_bytes=target.stat().st_size)
    for name in set(before) - set(files):
        (folder / name).unlink(missing_ok=True)
        _aside(folder / name).unlink(missing_ok=True)
    size_bytes = _write_card(folder, card, told)
    emit("saved", path=str(folder / card.name), size_bytes=size_bytes)


def read_output(folder: Path, card: Card = TRAINED) -> dict[str, Any]:
    """The card of a folder that Nexa left: final_model.json, or export.json.

    Raises:
        IntegrityError: it is not there, is not one, or its files were not all written.
    """
    facts = _read_card(folder, card)
    if UNFINISHED in facts:
        raise IntegrityError(
            f"{folder} is not whole: run {facts['run_id']} was stopped while it wrote it",
            fix=f"run {card.again} again: what was made before is reused",
        )
    return facts


def _read_card(folder: Path, card: Card) -> dict[str, Any]:
    path = folder / card.name
    try:
        facts: Any = json.loads(path.read_bytes())
        if not isinstance(facts, dict) or not isinstance(facts.get("run_id"), str):
            raise ValueError("it names no run")
        if not _is_file_list(facts.get("files")):
            raise ValueError("it names no files of this folder")
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{folder} is not what {card.left_by}: it has no {card.name}", fix=card.make
        ) from error
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"cannot read {path}", found=str(error), fix=f"empty {folder}, then {card.again} again"
        ) from error
    return facts


def _is_file_list(files: Any) -> bool:
    """Names inside the folder with their digests: a name that leads out of it could be removed."""
    return isinstance(files, dict) and not any(
        PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files
    )


def _write_card(folder: Path, card: Card, facts: Mapping[str, Any]) -> int:
    data = (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()
    write_atomic(folder / card.name, data)
    return len(data)


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: what the user does to it must never reach the store."""
    aside = _aside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, aside)
        aside.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be written has no leftover
            aside.unlink()


def _aside(target: Path) -> Path:
    """Where a file grows: one name, so that a stopped run's is written over."""
    return target.with_name(f".{target.name}.new")
