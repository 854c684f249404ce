"""Nexa as its user runs it: `nexa train` in a project, watched through the log that it writes.

The project is a copy of one whose data are prepared, so that every run begins alike and none goes
on from another's checkpoint. The clock starts before the process does, and a step lasts from the
event before it to its own: whatever the program does between two steps counts. When the training
has ended, the process is ended too: the evaluation that would follow is not measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from .contestants import Nexa
from .work import PREPARED, RUN, Work, write_config

Event = dict[str, Any]

TASK = "training"  # what the log calls the steps
LOGS = Path("runs", "logs")
POLL_S = 0.05
# A user's project keeps everything in its own folder.
MOVED_BY = ("NEXA_SCRATCH", "NEXA_DURABLE")


def flight_check(folder: Path, work: Work, steps: int, nexa: Nexa) -> float:
    """Run `nexa check` in the prepared project, which keeps its answer; returns its seconds."""
    project = folder / PREPARED
    _configure(project, work, steps, nexa)
    begin = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-m", "nexa", "check"],
        cwd=project,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise SystemExit(f"nexa check refuses the work:\n{told.stdout}{told.stderr}")
    return time.monotonic() - begin


def run(folder: Path, work: Work, steps: int, nexa: Nexa) -> dict[str, Any]:
    """Train once, to the last step; returns what was seen of it.

    Raises:
        SystemExit: it did not get there; tells what it said.
    """
    project = fresh_copy(folder)
    _configure(project, work, steps, nexa)
    heard: list[Event] = []
    peak = 0
    begin = time.time()
    with training(project, check=nexa.check) as under_way:
        for event in events(under_way):
            heard.append(event)
            if event.get("task") == TASK:
                peak = max(peak, peak_rss_bytes(under_way.process.pid))
            if event["kind"] == "step.end" and event["step"] == "finetune":
                break
        else:
            raise SystemExit(f"nexa train ended before its training did:\n{under_way.last_words()}")
    return {
        **seen(heard, begin),
        "peak_rss_bytes": peak,
        "resolved": _resolved(project, heard[-1]),
        "versions": _versions(),
    }


def fresh_copy(folder: Path) -> Path:
    """The prepared project as it was prepared, at the one place where all runs take place."""
    project = folder / RUN
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(folder / PREPARED, project)
    return project


def seen(heard: Sequence[Event], begin: float) -> dict[str, Any]:
    """Times and losses of a training, out of its events; `begin` is when its process was started.

    `moments` tells what the time before the first step was spent on: seconds from the start at
    which each event before it came. `check_cached` says whether the flight check, if there was
    one, was kept from before: a check that is made counts into the start.
    """
    started = next(place for place, event in enumerate(heard) if _is_start(event))
    before = heard[started]["t"]
    moments = [[event["kind"], round(event["t"] - begin, 3)] for event in heard[: started + 1]]
    start_to_first_step_s = before - begin
    steps: list[dict[str, Any]] = []
    for event in heard[started:]:
        if event["kind"] == "progress" and event["task"] == TASK and event["done"] > len(steps):
            steps.append({"seconds": event["t"] - before, "loss": event["loss"]})
            before = event["t"]
    flight = next((event for event in heard if event["kind"] == "flight.check"), {})
    return {
        "steps": steps,
        "start_to_first_step_s": start_to_first_step_s,
        "check_cached": bool(flight.get("cached") or not flight.get("made")),
        "moments": moments,
    }


def seconds_to_first_step(project: Path, *, check: bool) -> float:
    """Run `nexa train` in a project until its first step begins, and end it there."""
    begin = time.time()
    with training(project, check=check) as under_way:
        for event in events(under_way):
            if _is_start(event):
                return float(event["t"] - begin)
    raise SystemExit(f"nexa train ended before its first step:\n{under_way.last_words()}")


def _is_start(event: Event) -> bool:
    return (event["kind"], event.get("task")) == ("progress.start", TASK)


@dataclass(frozen=True)
class UnderWay:
    """A process of `nexa train`."""

    process: subprocess.Popen[bytes]
    project: Path
    older_logs: frozenset[str]  # names of the logs of other runs
    output: Path

    def log(self) -> Path | None:
        """The log of the run, as soon as there is one."""
        logs = (self.project / LOGS).glob("*.jsonl")
        return next((path for path in logs if path.name not in self.older_logs), None)

    def last_words(self) -> str:
        """The end of what it has said."""
        return self.output.read_text(encoding="utf-8", errors="replace")[-4000:]


@contextlib.contextmanager
def training(project: Path, *, check: bool) -> Iterator[UnderWay]:
    """`nexa train` under way; it is ended with the block."""
    output = project / "output.log"
    older_logs = frozenset(path.name for path in (project / LOGS).glob("*.jsonl"))
    command = [sys.executable, "-m", "nexa", "train", *([] if check else ["--no-check"])]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield UnderWay(process, project, older_logs, output)
        finally:
            # Not asked politely: what it would still write is thrown away with its project.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def events(under_way: UnderWay) -> Iterator[Event]:
    """What a run writes into its log, as it does, until its process ends."""
    path: Path | None = None
    read, rest = 0, b""
    ended = False
    while not ended:
        ended = under_way.process.poll() is not None  # one more look after the end
        path = path or under_way.log()
        if path is not None:
            with path.open("rb") as file:
                file.seek(read)
                new = file.read()
            read += len(new)
            *lines, rest = (rest + new).split(b"\n")
            yield from map(json.loads, lines)
        if not ended:
            time.sleep(POLL_S)


def peak_rss_bytes(pid: int) -> int:
    """The most memory a process has held; without /proc what it holds now, a lower bound."""
    status = Path(f"/proc/{pid}/status")
    try:
        lines = status.read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    except FileNotFoundError:
        return int(psutil.Process(pid).memory_info().rss)


def _configure(project: Path, work: Work, steps: int, nexa: Nexa) -> None:
    write_config(
        project,
        work.model,
        work.rows_name,
        work.rows_per_step,
        steps=steps,
        engine=nexa.engine,
        precision=nexa.precision,
    )


def _resolved(project: Path, sealed: Event) -> dict[str, Any]:
    """The choices that the run made by itself."""
    from nexa.core.tiers import Tiers

    store = Tiers.of(project).store
    path = store.path(store.by_digest(sealed["digest"]), "resolved.json")
    resolved: dict[str, Any] = json.loads(path.read_bytes())
    return resolved


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in MOVED_BY}
    return {**environment, "HF_HUB_OFFLINE": "1"}


def _versions() -> dict[str, str]:
    import importlib.metadata

    packages = {"nexa": "nexa-compute", "torch": "torch", "transformers": "transformers"}
    return {name: importlib.metadata.version(package) for name, package in packages.items()}
