"""Preparing many rows: time, memory, copies found; and deduplication against datatrove.

    python benchmarks/prepare.py --model FOLDER [--rows 1000000] [--runs 1] [--json FILE.jsonl]
    python benchmarks/prepare.py --peer 100000 --environments FOLDER [--pairs 3] [--json FILE.jsonl]

The rows are made here, seeded: 80 words each, none like another but for planted copies. Of all
rows 5 % are exact copies, and 5 % near-copies in which two neighbouring words are others (a Jaccard
of 0.90 of their shingles of three words).

With a model: the whole command `nexa data prepare` in a fresh process and a fresh project, with
the default filters. Told are wall seconds, the largest memory of the process and all its children
together (PSS: what processes share is counted once; looked at every 0.2 s), the copies found, and
the false merges: rows left out as copies, or put into a cluster, though no copy of them is there.

With a peer: deduplication alone on the same two files, in turn, each tool as a process of its own
with two workers; `contest/peers/datatrove_peer.py` has datatrove's settings. The clocks run from
start to end of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from contest import environments, planted
from contest.kept import Kept
from contest.planted import Planted

SHARE = 0.05  # of the rows that are exact copies, and as many near ones
POLL_S = 0.2
# datatrove with its own words for English, as it comes, and with words cut at blanks.
PEERS = ("datatrove", "datatrove at blanks")
TOOLS = ("nexa", *PEERS)
CONTEST = Path(__file__).resolve().parent / "contest"
COPIES = ("exact duplicate", "near-duplicate")


def main() -> None:
    """Make the rows, run, judge, print a table."""
    options = arguments()
    work = {"seed": options.seed, "rows": options.peer or options.rows}
    kept = Kept(options.json, work)
    with tempfile.TemporaryDirectory(prefix="nexa-prepare-", dir=options.scratch) as place:
        folder = Path(place)
        if options.peer:
            made = planted.write(folder / "rows", options.peer, options.seed, SHARE, files=2)
            python = environments.make("datatrove", options.environments)
            for _ in range(options.pairs):
                runs = {tool: deduplicate(tool, folder, python, made) for tool in TOOLS}
                told(kept.add("pair", **runs), runs)
        else:
            made = planted.write(folder / "rows", options.rows, options.seed, SHARE, files=1)
            for _ in range(options.runs):
                run = prepare(folder, options.model, made)
                told(kept.add("run", **run), {"nexa": run})
    print(table(kept))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="a model folder: its tokenizer and template")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--peer", type=int, metavar="ROWS", help="deduplicate that many in turn")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each tool, with --peer")
    parser.add_argument("--environments", type=Path, help="a folder for datatrove's; made with pip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where all is made; 5 GB for a million rows")
    parser.add_argument("--json", type=Path, help="keep every measurement in it")
    options = parser.parse_args()
    if options.peer and options.environments is None:
        parser.error("--peer needs --environments")
    if not options.peer and options.model is None:
        parser.error("give --model, or --peer")
    return options


def prepare(folder: Path, model: Path, made: Planted) -> dict[str, Any]:
    """`nexa data prepare` on the rows, and what it found."""
    project = Path(tempfile.mkdtemp(prefix="project-", dir=folder))
    (rows,) = (folder / "rows").iterdir()
    command = [sys.executable, "-m", "nexa", "data", "prepare", str(rows), "--model", str(model)]
    measured = watched([*command, "--json"], project)
    gone: dict[int, str] = {}
    reasons: dict[str, int] = {}
    (rejects,) = files_of(project, "rejects.jsonl")
    with rejects.open("rb") as lines:
        for line in lines:
            reject = json.loads(line)
            reasons[reject["reason"]] = reasons.get(reject["reason"], 0) + 1
            if reject["reason"] in COPIES:
                gone[reject["line"] - 1] = reject["reason"]
    joined: list[int] = []
    for path in files_of(project, "*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches(columns=["row_id", "cluster"]):
            ids, clusters = (column.to_pylist() for column in batch.columns)
            pairs = zip(ids, clusters, strict=True)
            joined += [int(row.removeprefix("r")) for row, cluster in pairs if row != cluster]
    shutil.rmtree(project)
    return {**measured, "dropped": reasons, **planted.judge(made, gone, joined)}


def files_of(project: Path, name: str) -> Sequence[Path]:
    """The files of that name that a project's dataset is made of.

    Raises:
        SystemExit: there are none.
    """
    paths = sorted((project / ".nexa" / "durable").rglob(name))
    if not paths:
        raise SystemExit(f"nexa data prepare has left no {name} in {project}")
    return paths


def deduplicate(tool: str, folder: Path, python: Path, made: Planted) -> dict[str, Any]:
    """Deduplication alone by one tool, and what it found."""
    out = folder / tool
    shutil.rmtree(out, ignore_errors=True)
    script = CONTEST / "deduplicate.py"
    command = [sys.executable, str(script), str(folder / "rows"), str(out)]
    if tool in PEERS:
        script = CONTEST / "peers" / "datatrove_peer.py"
        words = "blanks" if tool == PEERS[1] else "english"
        command = [str(python), str(script), str(folder / "rows"), str(out), words]
    measured = watched(command, folder)
    gone = dict.fromkeys(set(range(made.rows)) - set(planted.kept_ids(out / "kept")), "gone")
    return {**measured, **planted.judge(made, gone)}


def watched(command: Sequence[str], place: Path) -> dict[str, Any]:
    """Run a command to its end; its wall seconds, CPU seconds and largest memory.

    Raises:
        SystemExit: it failed; tells what it said.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (place / "said").open("w+") as said:
        begin = time.monotonic()
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        peak = 0
        cpu_s: dict[int, float] = {}
        while process.poll() is None:
            peak = max(peak, look(process.pid, cpu_s))
            time.sleep(POLL_S)
        wall_s = time.monotonic() - begin
        if process.returncode:
            raise SystemExit(f"{command[1:4]} failed:\n{(place / 'said').read_text()[-4000:]}")
    return {"wall_s": wall_s, "cpu_s": sum(cpu_s.values()), "peak_bytes": peak}


def look(pid: int, cpu_s: dict[int, float]) -> int:
    """What a process and all its children have in memory, what they share counted once.

    Notes what CPU time each of them has had: not all are waited for by a parent.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
            cpu_s[process.pid] = sum(process.cpu_times()[:2])
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended
            continue
    return total


def told(record: dict[str, Any], runs: dict[str, dict[str, Any]]) -> None:
    """One line a run when it has ended."""
    for tool, run in runs.items():
        print(
            f"{tool}: {run['wall_s']:.1f} s ({run['cpu_s']:.1f} s of CPU), "
            f"{run['peak_bytes'] / 1e9:.2f} GB; exact {run['exact_found']:,} of {run['exact']:,}, "
            f"near {run['near_found']:,} of {run['near']:,}, "
            f"false merges {run['false_merges']:,}; load {record['load']}",
            flush=True,
        )


def table(kept: Kept) -> str:
    """The medians of all that is kept, as Markdown; the ratio is that of paired runs."""
    lines = [
        "| | rows | s | s of CPU | GB at most | exact found | near found | false merges |",
        "|---|---|---|---|---|---|---|---|",
    ]
    pairs = [record for record in kept.records if record["kind"] == "pair"]
    runs = {"nexa data prepare": [r for r in kept.records if r["kind"] == "run"]}
    runs |= {f"{tool}, copies alone": [pair[tool] for pair in pairs] for tool in TOOLS}
    for name, some in runs.items():
        if some:
            wall, cpu = (statistics.median(run[key] for run in some) for key in ("wall_s", "cpu_s"))
            peak = max(run["peak_bytes"] for run in some) / 1e9
            last = some[-1]
            shares = [last[f"{kind}_found"] / max(last[kind], 1) for kind in ("exact", "near")]
            wrong = last["false_merges"] / last["rows"]
            lines.append(
                f"| {name} | {last['rows']:,} | {wall:.1f} | {cpu:.1f} | {peak:.2f} "
                f"| {shares[0]:.2%} | {shares[1]:.2%} | {wrong:.3%} |"
            )
    if pairs:
        for peer in PEERS:
            ratio = statistics.median(p[peer]["wall_s"] / p["nexa"]["wall_s"] for p in pairs)
            lines.append(f"\nNexa is {ratio:.1f} times as fast as {peer} (median of {len(pairs)}).")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
