"""dataset_registry.yaml: every dataset of a project, in git, beside the data that is not.

    materials:
      v1:
        digest: 5f1c...            the record's; `nexa verify` compares it
        path: datasets/materials/v1
        rows: {train: 320}
        sources: {train.jsonl: 77ab...}
        parent: null               the version it was made from
        created: 2026-01-31T12:00:00+00:00
        notes: ""                  yours to write
        state: rolled back         of a round of improvement: on trial | accepted | rolled back |
                                   control; where it is not there, nothing was tried
        reason: ...                of that state

Comments and notes of the user stay. Written aside and renamed, under a lock of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from nexa.core.errors import DataError
from nexa.core.events import emit
from nexa.core.records import Artifact, DatasetBody
from nexa.core.store import write_atomic

State = Literal["on trial", "accepted", "rolled back", "control"]
ACCEPTED: State = "accepted"
HEADER = "Datasets of this project: id -> version -> what it is. Written by nexa; notes are yours."


def register(
    path: Path,
    dataset: Artifact[DatasetBody],
    *,
    parent: str | None = None,
    notes: str = "",
    state: State | None = None,
    now: datetime | None = None,
) -> bool:
    """Write a dataset into the registry; returns whether the file changed.

    `state` is that of a version which a round of improvement makes: until it is decided on, no
    other command may take it for the newest.

    A version that is there with the same digest stays as it is. One with another digest (the
    store was made anew) is replaced, and its old digest is kept under `replaced`.

    Raises:
        DataError: the file is not a registry.
        StorageError: it cannot be written.
    """
    with _locked(path.parent):
        registry = _load(path)
        versions = registry.setdefault(dataset.name, CommentedMap())
        before = versions.get(dataset.version)
        if before is not None and before.get("digest") == dataset.digest:
            return False
        entry = _entry(dataset, parent, notes, now or datetime.now(UTC))
        if state is not None:
            entry["state"] = state
        if before is not None:
            entry["notes"] = before.get("notes") or notes
            entry["replaced"] = [*before.get("replaced", []), before.get("digest")]
            emit("note", text=f"{path.name}: {dataset.label} has another digest than it had")
        versions[dataset.version] = entry
        write_atomic(path, _dump(registry))
    return True


def mark(path: Path, dataset: Artifact[DatasetBody], state: State, reason: str) -> bool:
    """Write how a round of improvement went for a version; returns whether the file changed.

    Raises:
        DataError: the file is not a registry, or does not have that version.
        StorageError: it cannot be written.
    """
    with _locked(path.parent):
        registry = _load(path)
        entry = registry.get(dataset.name, {}).get(dataset.version)
        if entry is None or entry.get("digest") != dataset.digest:
            raise DataError(f"{path.name} has no {dataset.label}", found=dataset.digest[:16])
        if (entry.get("state"), entry.get("reason")) == (state, reason):
            return False
        entry["state"], entry["reason"] = state, reason
        write_atomic(path, _dump(registry))
    return True


def stands(entry: Mapping[str, Any]) -> bool:
    """Whether a version may be built on: it was not tried, or it was accepted."""
    return entry.get("state") in (None, ACCEPTED)


def read(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Every dataset and version of a registry; empty where there is none.

    Raises:
        DataError: the file is not a registry.
    """
    return {name: dict(versions) for name, versions in _load(path).items()}


def _entry(
    dataset: Artifact[DatasetBody], parent: str | None, notes: str, now: datetime
) -> CommentedMap:
    body = dataset.body
    return CommentedMap(
        digest=dataset.digest,
        path=f"datasets/{dataset.name}/{dataset.version}",
        rows={name: split.rows for name, split in body.splits.items()},
        sources=dict(body.sources),
        parent=parent,
        created=now.isoformat(timespec="seconds"),
        notes=notes,
    )


def _load(path: Path) -> CommentedMap:
    try:
        loaded = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        loaded = None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise DataError(f"cannot read {path}", found=str(error)) from error
    if loaded is None:
        fresh = CommentedMap()
        fresh.yaml_set_start_comment(HEADER)
        return fresh
    whole = isinstance(loaded, CommentedMap) and all(
        isinstance(versions, dict) and all(isinstance(entry, dict) for entry in versions.values())
        for versions in loaded.values()
    )
    if not whole:
        raise DataError(
            f"{path} is not a dataset registry",
            found="it must map dataset ids to versions, and versions to their facts",
            fix=f"mend it or move it away: mv {path.name} {path.name}.old",
        )
    registry: CommentedMap = loaded
    return registry


def _dump(registry: CommentedMap) -> bytes:
    yaml = YAML()
    yaml.width = 4096  # a digest is never folded
    text = io.StringIO()
    yaml.dump(registry, text)
    return text.getvalue().encode()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock is the folder's own, so no lock file is left in git."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
