"""A peer's run: its script in its own environment, timed by the meter that it carries."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .contestants import Peer
from .peers.job import Job
from .work import ALPHA, LEARNING_RATE, MAX_LENGTH, ORDERED, RANK, Work

PEERS = Path(__file__).resolve().parent / "peers"


def run(folder: Path, work: Work, steps: int, peer: Peer, environments: Path) -> dict[str, Any]:
    """Train once with a peer; returns what its meter saw.

    Raises:
        SystemExit: it failed; tells what it said.
    """
    python = environments / peer.environment / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix=f"{peer.environment}-") as scratch:
        out, job = Path(scratch) / "meter.jsonl", Path(scratch) / "job.json"
        job.write_text(json.dumps(asdict(_job(folder, work, steps, peer, scratch, out))))
        begin = time.time()
        told = subprocess.run(
            [str(python), str(PEERS / peer.script), str(job)],
            cwd=scratch,
            env=_environment(Path(scratch)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if told.returncode:
            raise SystemExit(f"{peer.name} failed:\n{told.stdout[-4000:]}")
        return seen([json.loads(line) for line in out.read_text().splitlines()], begin)


def seen(metered: list[dict[str, Any]], begin: float) -> dict[str, Any]:
    """A run in the form in which all are kept; `begin` is when its process was started."""
    *steps, training = metered
    return {
        "steps": [
            {
                "seconds": step["ended"] - step["began"],
                "loss": step["loss"],
                "tokens": step["tokens"],
                "padded_tokens": step["padded_tokens"],
                "label_tokens": step["label_tokens"],
            }
            for step in steps
        ],
        "start_to_first_step_s": steps[0]["began"] - begin,
        **training,
    }


def _job(folder: Path, work: Work, steps: int, peer: Peer, scratch: str, out: Path) -> Job:
    return Job(
        model=work.model,
        rows=str((folder / ORDERED).resolve()),
        out=str(out),
        scratch=scratch,
        steps=steps,
        rows_per_step=work.rows_per_step,
        micro_batch=min(peer.micro_batch, work.rows_per_step),
        max_length=MAX_LENGTH,
        lr=LEARNING_RATE,
        rank=RANK,
        alpha=ALPHA,
        settings=dict(peer.settings),
    )


def _environment(scratch: Path) -> dict[str, str]:
    """This process's own, without a network, and with caches that no other run has filled."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(scratch / "datasets"),
        "PYTHONPATH": str(PEERS / "stand_in"),
    }
