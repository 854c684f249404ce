"""Checkpoints of a run under way: what a killed run goes on from, byte for byte.

    run_state/step-000020/
      trained.safetensors     what is trained, float32
      optimizer.safetensors   the optimiser's tensors (AdamW: both moments and its own step)
      best.safetensors        the weights with the lowest validation loss, where those are selected
      state.json              steps done, their records, what happened on the way, and what
                              exactness depends on
      resolved.json           every automatic choice of the run
      CHECKPOINT.json         the digest of each of these; written last

A checkpoint is written in a hidden folder, flushed to the disk, marked, and renamed: a kill at
any moment leaves the ones before it and at most a hidden folder. What is read back is checked
against the marker first, so a torn or a changed one is passed over and named.

The data order, the dropout and the learning rate are functions of (seed, step), so nothing of
them has to be kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.identity import sha256_file
from nexa.core.store import free_bytes, storage_error, sync_folder, write_atomic
from nexa.train.optim import BYTES_KEPT

SCHEMA = "nexa.run-state/2"
MARKER = "CHECKPOINT.json"
TRAINED, OPTIMIZER, BEST = "trained.safetensors", "optimizer.safetensors", "best.safetensors"
STATE, RESOLVED = "state.json", "resolved.json"
FILES = (TRAINED, OPTIMIZER, BEST, STATE, RESOLVED)
NAME = re.compile(r"step-(\d{6,})")

RECORDS_BYTES = 1 << 20  # for the small files: a step's record is about 150 bytes


@dataclass(frozen=True)
class RunState:
    """Everything that the steps still to come depend on, and the records of those done."""

    step: int  # optimiser steps done
    trained: dict[str, Tensor]  # float32; by number, in the executor's order
    optimizer: dict[str, Tensor]  # `NUMBER.NAME`, as the optimiser numbers its parameters
    records: list[dict[str, Any]]  # one for each step done
    resolved: dict[str, Any]
    facts: dict[str, str]  # what else equal bytes depend on: libraries, processor, data
    history: dict[str, Any] = field(default_factory=dict)  # what happened that no record tells
    best: dict[str, Tensor] = field(default_factory=dict)  # as `trained`; empty: none is selected


def size_bytes(parameters: int, optimizer: str, *, best: bool = False) -> int:
    """The most that one checkpoint of so many trained numbers takes, with the best ones or not."""
    return parameters * (BYTES_KEPT[optimizer] + (4 if best else 0)) + RECORDS_BYTES


def save(folder: Path, state: RunState) -> Path:
    """Write one checkpoint into `folder`; returns its own folder, which is there or is not.

    Raises:
        StorageError: no space or no permission; nothing is left of it.
    """
    target = folder / f"step-{state.step:06d}"
    aside = folder / f".{target.name}.{uuid.uuid4().hex}"
    emit("checkpoint.start", step=state.step)
    try:
        aside.mkdir(parents=True)
        _write(aside, state)
        _replace(aside, target)
        sync_folder(folder)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise storage_error(target, error) from error
    except SafetensorError as error:  # its writer tells a full disk by this
        raise StorageError(
            f"cannot write {target}: {error}",
            found=f"{free_bytes(folder) / 1e9:.2f} GB free there",
            fix="free some space, then run the same command again",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    emit("checkpoint.saved", step=state.step, path=str(target))
    return target


def newest_valid(folder: Path) -> RunState | None:
    """The newest checkpoint that is what its marker says; those passed over are named."""
    for place in checkpoints(folder):
        try:
            return read(place)
        except IntegrityError as error:
            emit("note", text=f"checkpoint passed over: {error.what} ({error.found})")
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, newest first."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: step_of(path.name), reverse=True)


def step_of(name: str) -> int:
    """The step in a checkpoint's name."""
    return int(name.removeprefix("step-"))


def read(place: Path) -> RunState:
    """One checkpoint, after every byte was checked.

    Raises:
        IntegrityError: a file is missing or is not what the marker says; names it.
    """
    check(place)
    state = json.loads((place / STATE).read_bytes())
    return RunState(
        step=state["step"],
        trained=_read_tensors(place / TRAINED),
        optimizer=_read_tensors(place / OPTIMIZER),
        records=state["records"],
        resolved=json.loads((place / RESOLVED).read_bytes()),
        facts=state["facts"],
        history=state["history"],
        best=_read_tensors(place / BEST),
    )


def check(place: Path) -> None:
    """Compare a checkpoint's files with its marker.

    Raises:
        IntegrityError: a file is missing or is not what the marker says; names it.
    """
    try:
        marker = json.loads((place / MARKER).read_bytes())
        if marker["schema"] != SCHEMA or set(marker["files"]) != set(FILES):
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{place} has no marker that can be read", found=str(error)) from error
    for name, digest in marker["files"].items():
        try:
            found = sha256_file(place / name)
        except OSError as error:
            raise IntegrityError(f"{place} lacks {name}", found=str(error)) from error
        if found != digest:
            raise IntegrityError(f"{place}: {name} is not what was written", found=found[:16])


def sweep(folder: Path) -> None:
    """Remove what killed writers left: hidden folders that were never renamed."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _write(aside: Path, state: RunState) -> None:
    """The files, each on the disk before the next, then the marker that vouches for them."""
    _write_tensors(aside / TRAINED, state.trained)
    _write_tensors(aside / OPTIMIZER, state.optimizer)
    _write_tensors(aside / BEST, state.best)
    told = {name: getattr(state, name) for name in ("step", "records", "facts", "history")}
    for name, value in ((STATE, told), (RESOLVED, state.resolved)):
        write_atomic(aside / name, json.dumps(value).encode())
    digests = {name: sha256_file(aside / name) for name in FILES}
    emit("checkpoint.marking", step=state.step)
    write_atomic(aside / MARKER, json.dumps({"schema": SCHEMA, "files": digests}).encode())
    sync_folder(aside)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file(dict(tensors), path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    emit("checkpoint.file", name=path.name)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Copies, so that each is aligned as a tensor that training made is."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _replace(aside: Path, target: Path) -> None:
    """Rename into place; a folder that is there (a damaged one: else it were resumed) goes."""
    if target.exists():
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        target.rename(old)
        with contextlib.suppress(OSError):
            shutil.rmtree(old)
    aside.rename(target)
