"""How long a new user's first model takes: the guided flow, typed through a pseudo-terminal.

    python benchmarks/guided.py [--source wheel|hub] [--folder EMPTY] [--bar-minutes 6] [--json]

It does what a beginner does in an empty folder beside the files of examples/materials: opens
`nexa`, takes what is offered by Enter, chooses smollm2-135m and its source, and waits until the
model is published into the local Hub. The clock runs from the start of the program to its end, and
is told question by question too. The exit code is 1 if it took longer than the bar.

A download counts: run it twice for the time without one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect

MATERIALS = Path(__file__).resolve().parent.parent / "examples" / "materials"
LONGEST_WAIT_S = 1800
STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# (what is waited for, what is typed); {source} is the option's.
CONVERSATION = (
    (r"Token \(not shown\): ", ""),
    (r"Hub id \[\d\]: ", "smollm2-135m"),
    (r"differ in weights \[\d\]: ", "{source}"),
    (r"Hub dataset \[1\]: ", ""),
    (r"Name of the trained model.*: ", ""),
    (r"Method \[\d\]: ", ""),
    (r"Where \[\d\]: ", ""),
    (r"Publish \[\d\]: ", ""),
    (r"Repository \[.*\]: ", ""),
    (r"Start \[yes\]: ", ""),
)
MOMENTS = (r"\$ nexa init", r"\$ nexa check", r"\$ nexa train", r"\$ nexa publish", r"Published: ")


def main() -> int:
    """Run it once and say how long it took; 0 if that is within the bar."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", choices=["wheel", "hub"], default="wheel")
    parser.add_argument("--folder", type=Path, help="an empty folder that is kept afterwards")
    parser.add_argument("--bar-minutes", type=float, default=6.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="nexa-guided-"))
    try:
        result = drive(new_folder(folder), options.source)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    result["within_the_bar"] = result["minutes"] <= options.bar_minutes
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        tell(result, options.bar_minutes)
    return 0 if result["within_the_bar"] else 1


def new_folder(folder: Path) -> Path:
    """A folder with rows to train on and rows to hold out, and nothing else."""
    (folder / "materials").mkdir(parents=True)
    for name in ("train.jsonl", "eval.jsonl"):
        shutil.copy(MATERIALS / name, folder / "materials" / name)
    return folder


def drive(folder: Path, source: str) -> dict[str, Any]:
    """Answer every question; the seconds at each, and what was said about the model."""
    started = time.monotonic()
    child = pexpect.spawn(
        sys.executable,
        ["-m", "nexa"],
        cwd=str(folder),
        env={**os.environ, "TERM": "xterm"},
        encoding="utf-8",
        timeout=LONGEST_WAIT_S,
        dimensions=(50, 120),
    )
    at_s: dict[str, float] = {}
    text = ""
    for pattern, answer in (*CONVERSATION, *((moment, None) for moment in MOMENTS)):
        ended = child.expect([pattern, pexpect.EOF]) == 1
        text += child.before + ("" if ended else child.after)
        if ended:
            sys.exit(f"nexa ended while this waited for {pattern}:\n{plain(text)[-4000:]}")
        at_s[plain(child.after)] = time.monotonic() - started
        if answer is not None:
            child.sendline(answer.format(source=source))
    child.expect(pexpect.EOF)
    text += child.before
    child.close()
    seconds = time.monotonic() - started
    if child.exitstatus:
        sys.exit(f"nexa ended with {child.exitstatus}:\n{plain(text)[-4000:]}")
    told = plain(text)
    return {
        "minutes": seconds / 60,
        "seconds_at": at_s,
        "verdict": re.findall(r"Verdict: (.*)", told)[0].strip(),
        "published": re.findall(r"Published: (.*)", told)[0].strip(),
        "commands": re.findall(r"^  (nexa .*)$", told.partition("The same again")[2], re.M),
    }


def plain(text: str) -> str:
    """Text without what steers the terminal."""
    return STEERING.sub("", text).replace("\r\n", "\n")


def tell(result: dict[str, Any], bar_minutes: float) -> None:
    """The figures, for people."""
    for moment, seconds in result["seconds_at"].items():
        print(f"{seconds:7.1f} s  {moment}")
    print(f"verdict: {result['verdict']}")
    print(f"published: {result['published']}")
    print(f"{result['minutes']:.2f} minutes from start to published folder (bar {bar_minutes:g})")


if __name__ == "__main__":
    sys.exit(main())
