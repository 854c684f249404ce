"""How long `nexa --help` and every `nexa COMMAND --help` take: the median of fresh interpreters.

    .venv/bin/python benchmarks/startup.py [--runs 11] [--limit-ms 150]

Each command line runs once unmeasured, so that files are in the page cache and byte code is
written, then `--runs` times. Exits 1 when a median wall-clock time is above the limit. CPU time
stands beside it (a busy machine stretches only the former), and so do the bare interpreter and an
import of click: those shares are not Nexa's.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from nexa.cli.docs import contexts


def main() -> int:
    """Measure and print one line a command; 1 when one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--limit-ms", type=float, default=150.0)
    options = parser.parse_args()

    print("  wall     CPU")
    for code, name in (("pass", "the bare interpreter"), ("import click", "import click")):
        tell([sys.executable, "-c", code], options.runs, f"({name})")
    slow = 0
    for context in contexts():
        words = context.command_path.split()[1:]
        command = [sys.executable, "-m", "nexa", *words, "--help"]
        wall_ms = tell(command, options.runs, f"{context.command_path} --help")
        slow += wall_ms > options.limit_ms
    print(f"{slow} over {options.limit_ms:g} ms; load average {os.getloadavg()[0]:.1f}")
    return 1 if slow else 0


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
