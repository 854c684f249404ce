"""Training speed: Nexa against TRL, transformers.Trainer + PEFT and LLaMA-Factory.

    python benchmarks/train_throughput.py --model FOLDER [--rows FILE.jsonl] [--nexa fused,generic]
        [--environments FOLDER --peers trl,trl-best,trainer,trainer-best,llamafactory,...]

One piece of work for all: the same rows in the same order, the model's chat template, LoRA of rank
16 on every linear layer, 16 rows a step, loss on the answer only. Every run is a process of its
own; the contestants take turns, A B C A B C, so that a busy machine slows all. The machine's limit
(plain matrix products) is measured before and after, and one run in float32 tells which losses are
right. The table goes to stdout; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contest import environments, limit, nexa_runs, peer_runs, work
from contest.contestants import PEERS, REFERENCE, Contestant, Nexa, contestants, named
from contest.figures import run_rate
from contest.kept import Kept
from contest.table import Contest, markdown

DEFAULT_ROWS = Path(__file__).resolve().parent.parent / "examples" / "materials" / "train.jsonl"


def main() -> None:
    """Run who was asked for, and print the table of all that is kept."""
    options = arguments()
    with folder(options) as place:
        made = work.make(place, options.rows, options.model, options.batch)
        kept = Kept(options.json, made.identity)
        if not options.table:
            compete(place, made, kept, options)
        print(markdown(Contest(made, kept)) if kept.names else "nobody has run yet")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument(
        "--rows",
        type=Path,
        default=DEFAULT_ROWS,
        help="rows in any shape that Nexa reads, with one answer each; default: the materials",
    )
    parser.add_argument("--steps", type=int, default=15, help="of Nexa and of the reference")
    parser.add_argument("--peer-steps", type=int, help="of the peers; default: as many")
    parser.add_argument("--pairs", type=int, default=2, help="runs of each but the reference")
    parser.add_argument("--batch", type=int, default=16, help="rows an optimiser step")
    parser.add_argument("--nexa", default="fused,generic", help="Nexa's engines")
    parser.add_argument(
        "--peers", help=f"of {','.join(PEERS)}; default: all, if there are --environments"
    )
    parser.add_argument(
        "--environments", type=Path, help="a folder for the peers' environments; made with pip"
    )
    parser.add_argument("--no-reference", action="store_true", help="no run in float32")
    parser.add_argument("--only", help="run one contestant; `limit`: measure the machine's limit")
    parser.add_argument("--json", type=Path, help="keep every measurement in it, and go on from it")
    parser.add_argument("--folder", type=Path, help="keep the prepared work in it for other runs")
    parser.add_argument("--table", action="store_true", help="run nothing: the table of --json")
    return parser.parse_args()


@contextlib.contextmanager
def folder(options: argparse.Namespace) -> Iterator[Path]:
    """Where the prepared work is."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder
        return
    with tempfile.TemporaryDirectory(prefix="nexa-contest-") as place:
        yield Path(place)


def compete(place: Path, made: work.Work, kept: Kept, options: argparse.Namespace) -> None:
    """Everybody in turn, as often as there are pairs; the reference once, at the end."""
    chosen = everybody(options)
    make_ready(place, made, kept, chosen, options)
    if options.only in (None, "limit"):
        measure_limit(made, kept)
    for pair in range(options.pairs):
        for contestant in chosen:
            if contestant != REFERENCE or pair == options.pairs - 1:
                run(place, made, kept, contestant, options)
    if options.only is None:
        measure_limit(made, kept)


def everybody(options: argparse.Namespace) -> list[Contestant]:
    """Who was asked for."""
    if options.only is not None:
        return [] if options.only == "limit" else [named(options.only)]
    peers = options.peers
    if peers is None:
        peers = ",".join(PEERS) if options.environments else ""
    return contestants(options.nexa, peers, reference=not options.no_reference)


def make_ready(
    place: Path,
    made: work.Work,
    kept: Kept,
    chosen: list[Contestant],
    options: argparse.Namespace,
) -> None:
    """What is no contestant's time: environments, and the flight checks that a user has kept.

    Raises:
        SystemExit: no folder for the environments, or more steps than the rows make.
    """
    if max(options.steps, options.peer_steps or 0) > len(made.tokens):
        whole = f"{len(made.tokens)} whole steps of {made.rows_per_step}"
        raise SystemExit(f"{made.rows:,} rows make {whole}: ask for no more")
    for contestant in chosen:
        if isinstance(contestant, Nexa):
            if contestant.check:
                seconds = nexa_runs.flight_check(place, made, options.steps, contestant)
                kept.add("check", contestant=contestant.name, seconds=seconds)
                print(f"{contestant.name}: checked in {seconds:.1f} s", flush=True)
        elif options.environments is None:
            raise SystemExit(f"{contestant.name} needs --environments FOLDER")
        else:
            environments.make(contestant.environment, options.environments)


def run(
    place: Path, made: work.Work, kept: Kept, contestant: Contestant, options: argparse.Namespace
) -> None:
    """One run of one contestant, kept at once."""
    if isinstance(contestant, Nexa):
        seen = nexa_runs.run(place, made, options.steps, contestant)
    else:
        steps = options.peer_steps or options.steps
        seen = peer_runs.run(place, made, steps, contestant, options.environments)
    told(kept.add("run", contestant=contestant.name, **seen), made)


def told(record: dict[str, Any], made: work.Work) -> None:
    """One line when a run has ended."""
    losses = " ".join(f"{step['loss']:.4f}" for step in record["steps"][:4])
    print(
        f"{record['contestant']}: {run_rate(record, made.tokens):.0f} tokens/s, "
        f"{record['peak_rss_bytes'] / 1e9:.2f} GB, first step after "
        f"{record['start_to_first_step_s']:.1f} s, losses {losses}",
        flush=True,
    )


def measure_limit(made: work.Work, kept: Kept) -> None:
    """What the machine can do now."""
    gflops = limit.measured(Path(made.model), "bfloat16")
    kept.add("limit", dtype="bfloat16", gflops=gflops)
    print(f"limit: {gflops:.0f} GFLOP/s in bfloat16", flush=True)


if __name__ == "__main__":
    main()
