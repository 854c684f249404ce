"""Whether what the run will write fits: summed for each file system, before the first byte."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nexa.core.config import Config
from nexa.core.errors import StorageError
from nexa.core.store import SPARE_BYTES, nearest_existing
from nexa.core.tiers import Tiers

# A checkpoint to resume from holds each trained weight and AdamW's two moments, in float32.
STATE_BYTES = 3 * 4
# Prepared rows beside their source: the table, its lineage, the rejects.
DATASET_SHARE = 2

Planned = tuple[str, int, str]  # a place, the bytes written there, what for


def planned(
    config: Config, tiers: Tiers, *, parameters: int, trained: int, data_bytes: int
) -> list[Planned]:
    """What a run writes, and where. Files that are only linked within a file system count once.

    `parameters` are the model's, `trained` those that are trained, `data_bytes` the source files'.
    """
    from nexa.orchestrate.export import bits_a_weight  # torch, which only a whole look has loaded

    merged, weights = 2 * parameters, 4 * trained
    ggufs = sum(map(bits_a_weight, config.publish.quantizations)) / 8 if config.publish else 0
    state = STATE_BYTES * trained * (config.training.checkpoints.keep + 1)
    store = tiers.store.root
    plan = [
        (str(tiers.scratch), state, "checkpoints to resume from"),
        (str(store), merged + weights + DATASET_SHARE * data_bytes, "model, adapter and dataset"),
        *([(str(store), round(ggufs * parameters), "GGUF files")] if ggufs else []),
        (str(tiers.root / config.training.output_dir), merged + weights, "the trained model"),
    ]
    if not _together(tiers.scratch, store):
        plan.append((str(tiers.scratch), merged + weights, "the model under way"))
    if tiers.durable_is_local:
        durable = Path(tiers.durable_place("checkpoints"))
        if not _together(durable, store):
            plan.append((str(durable), weights + DATASET_SHARE * data_bytes, "durable copies"))
    return plan


def check(plan: Sequence[Sequence[Any]], free: Callable[[Path], int]) -> str:
    """Compare what is planned with what is free on each file system.

    Raises:
        StorageError: a file system has too little room, or a place may not be written.
    """
    by_system: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for item in plan:
        place = nearest_existing(Path(item[0]))
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise StorageError(
                f"{item[0]} cannot be written: {item[2]} could not be kept",
                found=f"{place} is {'read-only for this user' if place.is_dir() else 'no folder'}",
                fix="make it writable, or move the project's files: NEXA_SCRATCH, NEXA_DURABLE, "
                "training.output_dir",
            )
        by_system[place.stat().st_dev].append(item)
    told, short = [], []
    for items in by_system.values():
        place, needed = Path(items[0][0]), sum(size for _, size, _ in items)
        room = free(place)
        told.append(f"{needed / 1e9:.2f} GB needed of {room / 1e9:.2f} GB free")
        if room < needed + SPARE_BYTES:
            parts = "\n".join(f"{size / 1e9:.3f} GB {what}: {at}" for at, size, what in items)
            short.append(
                f"{room / 1e9:.3f} GB free, {(needed + SPARE_BYTES) / 1e9:.3f} GB needed:\n{parts}"
            )
    if short:
        raise StorageError(
            "not enough disk space for this run",
            found="\n".join(short),
            fix="free some space, or move it: NEXA_SCRATCH and NEXA_DURABLE (folders), "
            "training.output_dir; training.checkpoints.keep: 1 writes less",
        )
    return "; ".join(told)


def _together(a: Path, b: Path) -> bool:
    """Whether two places are on one file system, where a file is linked and not copied."""
    return nearest_existing(a).stat().st_dev == nearest_existing(b).stat().st_dev
