"""How long Nexa takes to begin: every `--help`, and `nexa train` up to its first step.

    python benchmarks/startup.py [--runs 11] [--limit-ms 150]
    python benchmarks/startup.py --model FOLDER [--rows FILE.jsonl] [--runs 3]

Without a model: the median of fresh interpreters for `nexa --help` and each `nexa COMMAND --help`.
Each runs once unmeasured, so that files are in the page cache and byte code is written. Exits 1
when a median wall-clock time is above the limit. CPU time stands beside it (a busy machine
stretches only the former), and so do the bare interpreter and an import of click: those shares are
not Nexa's.

With a model: seconds from the start of the process to the beginning of the first optimiser step,
in a new project, in one that was prepared before, and in one whose flight check is kept too.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from contest import nexa_runs, work
from contest.contestants import Nexa

from nexa.cli.docs import contexts

DEFAULT_ROWS = Path(__file__).resolve().parent.parent / "examples" / "materials" / "train.jsonl"
ROWS_PER_STEP, STEPS = 16, 15
AS_IT_COMES = Nexa("auto", "Nexa", engine="auto")


def main() -> int:
    """Measure and print one line a command; 1 when one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, help="of each; default: 11, or 3 with a model")
    parser.add_argument("--limit-ms", type=float, default=150.0)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--rows", type=Path, default=DEFAULT_ROWS)
    options = parser.parse_args()
    if options.model is not None:
        return first_steps(options.model, options.rows, options.runs or 3)
    return helps(options.runs or 11, options.limit_ms)


def helps(runs: int, limit_ms: float) -> int:
    """Every --help; 1 when one is over the limit."""
    print("  wall     CPU")
    for code, name in (("pass", "the bare interpreter"), ("import click", "import click")):
        tell([sys.executable, "-c", code], runs, f"({name})")
    slow = 0
    for context in contexts():
        words = context.command_path.split()[1:]
        command = [sys.executable, "-m", "nexa", *words, "--help"]
        slow += tell(command, runs, f"{context.command_path} --help") > limit_ms
    print(f"{slow} over {limit_ms:g} ms; load average {os.getloadavg()[0]:.1f}")
    return 1 if slow else 0


def first_steps(model: Path, rows: Path, runs: int) -> int:
    """`nexa train` up to its first step, in three states of its project."""
    with tempfile.TemporaryDirectory(prefix="nexa-startup-") as name:
        folder = Path(name)
        made = work.make(folder, rows, model, ROWS_PER_STEP)
        nexa_runs.flight_check(folder, made, STEPS, AS_IT_COMES)

        def new() -> Path:
            project = nexa_runs.fresh_copy(folder)
            for place in (".nexa", "runs"):
                shutil.rmtree(project / place)
            return project

        def unchecked() -> Path:
            project = nexa_runs.fresh_copy(folder)
            shutil.rmtree(project / ".nexa" / "checks")
            return project

        tell_first_step(new, runs, "a new project: data are prepared, the check is made")
        tell_first_step(unchecked, runs, "second run, the check is made")
        tell_first_step(lambda: nexa_runs.fresh_copy(folder), runs, "second run, the check is kept")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0


def tell_first_step(project: Callable[[], Path], runs: int, name: str) -> None:
    """Print the median, and the shortest and longest."""
    seconds = [nexa_runs.seconds_to_first_step(project(), check=True) for _ in range(runs)]
    spread = f"{min(seconds):.1f}-{max(seconds):.1f}"
    print(f"{statistics.median(seconds):6.1f} s ({spread})  {name}", flush=True)


def tell(command: list[str], runs: int, name: str) -> float:
    """Print the medians of a command; returns its wall-clock time in ms."""
    wall_ms, cpu_ms = medians_ms(command, runs)
    print(f"{wall_ms:4.0f} ms {cpu_ms:4.0f} ms  {name}")
    return wall_ms


def medians_ms(command: list[str], runs: int) -> tuple[float, float]:
    """Median wall-clock and CPU time of a command that must succeed."""
    wall, cpu = [], []
    for _ in range(runs + 1):
        begin, used = time.perf_counter(), children_cpu_s()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall.append((time.perf_counter() - begin) * 1000)
        cpu.append((children_cpu_s() - used) * 1000)
    return statistics.median(wall[1:]), statistics.median(cpu[1:])


def children_cpu_s() -> float:
    """User and system time of all processes that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
