"""Which runs are alive, and what becomes of the manifest of one that is not.

A killed run can close nothing. So its process is noted in .nexa/runs/RUN_ID.json before its
manifest is opened, and the next run closes in its name what it left open. The note stays out of
the manifest, which is kept in git and read on other machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.manifest import ManifestFile, RunManifest, read_manifest
from nexa.core.store import write_atomic
from nexa.core.tiers import Tiers

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CLOCK_STEP_S = 2.0  # how far a start time may move when the clock is set


@dataclass(frozen=True)
class ProcessNote:
    """Which process a run is, and from which config.yaml."""

    pid: int
    boot_id: str
    started: float  # seconds since the epoch; a process id alone comes again
    config: str

    @property
    def alive(self) -> bool:
        """Whether this very process is there still."""
        if self.boot_id != boot_id():
            return False
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return False
        return abs(started - self.started) < CLOCK_STEP_S


def note_process(tiers: Tiers, run_id: str, config_path: Path) -> None:
    """Note that this process is the run."""
    pid = os.getpid()
    note = ProcessNote(
        pid, boot_id(), psutil.Process(pid).create_time(), str(config_path.absolute())
    )
    write_atomic(_place(tiers, run_id), json.dumps(asdict(note)).encode())


def read_note(tiers: Tiers, run_id: str) -> ProcessNote | None:
    """The note of a run; None where it was made on another machine, or by an older version."""
    try:
        return ProcessNote(**json.loads(_place(tiers, run_id).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def close_dead_runs(tiers: Tiers) -> list[str]:
    """Close, as interrupted, the manifests of runs whose process is gone; returns their ids.

    What they left in scratch is removed, except the checkpoints that a run goes on from.
    """
    closed = []
    for place in sorted((tiers.root / ".nexa" / "runs").glob("*.json")):
        run_id, note = place.stem, read_note(tiers, place.stem)
        if note is None or note.alive:
            continue
        with contextlib.suppress(IntegrityError):  # killed before its manifest was opened
            path = tiers.manifests / f"{run_id}.json"
            ledger = ManifestFile(path, read_manifest(path))
            if ledger.manifest.status == "running":
                why = f"its process {note.pid} is gone: killed, or the machine went down"
                ledger.close("interrupted", error=why)
                keep_manifest(tiers, ledger)
                closed.append(run_id)
        for leftover in tiers.scratch.glob(f"{run_id}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return closed


def keep_manifest(tiers: Tiers, ledger: ManifestFile) -> None:
    """A copy of a closed manifest in durable storage; a failure is told and hides nothing else."""
    try:
        tiers.write(ledger.to_bytes(), f"manifests/{ledger.manifest.run_id}.json")
    except StorageError as error:
        emit("note", text=f"the manifest is in {ledger.path} only: {error.what}")


def failed_before(ledger: Path, run: RunManifest) -> int:
    """How many runs of the same kind and config.yaml ended badly since the last good one."""
    count = 0
    for path in sorted(ledger.glob("*.json"), reverse=True):
        with contextlib.suppress(IntegrityError):  # a broken manifest is `verify`'s to tell
            earlier = read_manifest(path)
            if (earlier.run_type, earlier.config_sha256) != (run.run_type, run.config_sha256):
                continue
            if earlier.status == "done":
                break
            count += earlier.status in ("failed", "interrupted")
    return count


def boot_id() -> str:
    """What changes whenever the machine is started; empty where the system does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _place(tiers: Tiers, run_id: str) -> Path:
    return tiers.root / ".nexa" / "runs" / f"{run_id}.json"
