"""Decoding speed: Nexa's two engines against transformers' `generate`, same prompts, greedy.

    python benchmarks/decode.py --model FOLDER [--rows FILE.jsonl] [--new-tokens 128] [--json]

Every prompt gets exactly --new-tokens tokens, ends of turn ignored, so all sides do the same work.
transformers runs one left-padded batch, with its static cache (the fastest of its ways in our
measurements) and with its default, dynamic one. The sides are run in turn, A B C D A B C D, each in
a process of its own, so that a busy machine slows all; the first batch of 8 tokens warms a process
up and is not counted. Reading the prompts is counted. CPU seconds are told beside the wall clock:
they change less when other work runs. Peak RSS is the process's, with the loading of the model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT_ROWS = HERE.parent / "examples" / "materials" / "eval.jsonl"
Answers = list[list[int]]


def main() -> None:
    """Run the sides in turn and print, or write as JSON, what was measured."""
    options = arguments()
    if options.side:
        print(json.dumps(measure(options)))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    for _ in range(options.pairs):
        for side in options.sides:
            runs[side].append(run_side(side, options))
            if not options.json:
                print(f"{side}: {told(runs[side][-1])}", flush=True)
    medians = {side: median(measured) for side, measured in runs.items()}
    if options.json:
        print(json.dumps({"work": work(options), "runs": runs, "median": medians}, indent=2))
    else:
        print(table(options, medians))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument(
        "--rows",
        type=Path,
        default=DEFAULT_ROWS,
        help="JSONL with `prompt` (and `context`) or `question`; default: the materials' eval rows",
    )
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=2, help="runs of each side")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--model", options.model]
    command += ["--rows", str(options.rows), "--prompts", str(options.prompts)]
    command += ["--new-tokens", str(options.new_tokens), "--dtype", options.dtype]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if log.returncode:
        sys.exit(f"{side} failed:\n{log.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(log.stdout.splitlines()[-1])
    return result


def told(run: dict[str, Any]) -> str:
    """One measurement as a line."""
    return (
        f"{run['tokens']} tokens in {run['wall_s']:.1f} s, {run['cpu_s']:.1f} CPU s: "
        f"{run['tokens_per_s']:.0f} tokens/s, peak {run['peak_rss_gb']:.2f} GB, "
        f"digest {run['digest'][:8]}"
    )


def median(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The median of each figure over the runs of a side."""
    figures = ("tokens_per_s", "wall_s", "cpu_s", "peak_rss_gb")
    return {name: statistics.median(run[name] for run in runs) for name in figures}


def work(options: argparse.Namespace) -> dict[str, Any]:
    """What was done, with the digest of the rows."""
    from nexa.core.identity import sha256_file

    return {
        "rows": options.rows.name,
        "rows_sha256": sha256_file(options.rows),
        "prompts": options.prompts,
        "new_tokens": options.new_tokens,
        "dtype": options.dtype,
        "pairs": options.pairs,
    }


def table(options: argparse.Namespace, medians: dict[str, dict[str, float]]) -> str:
    """The medians as Markdown, each side beside the first."""
    first = next(iter(medians.values()))["tokens_per_s"]
    did = work(options)
    lines = [
        f"{did['prompts']} prompts of {did['rows']} (sha256 {did['rows_sha256'][:16]}), "
        f"{did['new_tokens']} new tokens each, {did['dtype']}, medians of {did['pairs']} runs",
        "",
        "| side | tokens/s | of the first | s | CPU s | peak RSS, GB |",
        "|---|---|---|---|---|---|",
    ]
    for side, m in medians.items():
        lines.append(
            f"| {side} | {m['tokens_per_s']:.0f} | {m['tokens_per_s'] / first:.2f}x "
            f"| {m['wall_s']:.1f} | {m['cpu_s']:.1f} | {m['peak_rss_gb']:.2f} |"
        )
    return "\n".join(lines)


# -- Inside one process --------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Answer the prompts with one side."""
    from nexa.core.allocator import keep_pages
    from nexa.core.identity import canonical_json, sha256_bytes
    from nexa.lm.chat import ChatTemplate
    from nexa.lm.resolve import resolve
    from nexa.lm.tokenizer import load_tokenizer

    keep_pages()  # helps all sides; the eval layer does it, too
    files = resolve(options.model)
    template = ChatTemplate(load_tokenizer(files))
    lines = options.rows.read_text(encoding="utf-8").splitlines()[: options.prompts]
    prompts = [template.prompt(question(json.loads(line))) for line in lines]
    answer = SIDES[options.side](files, options.dtype)
    answer(prompts, 8)
    wall, cpu = time.perf_counter(), time.process_time()
    ids = answer(prompts, options.new_tokens)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(map(len, ids))
    if tokens != len(prompts) * options.new_tokens:
        sys.exit(f"{options.side} made {tokens} tokens: the sides would not do the same work")
    return {
        "side": options.side,
        "tokens": tokens,
        "prompt_tokens": sum(map(len, prompts)),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "tokens_per_s": tokens / wall_s,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "digest": sha256_bytes(canonical_json(ids)),
    }


def question(row: dict[str, Any]) -> list[dict[str, str]]:
    """A row's user turn."""
    asked = row["prompt"] if "prompt" in row else row["question"]
    text = "\n\n".join(filter(None, (row.get("context"), asked)))
    return [{"role": "user", "content": text}]


def nexa(files: Any, dtype: str, engine: Any) -> Callable[[Answers, int], Answers]:
    """Nexa's way, on one of its engines."""
    from nexa.lm.local import generate, open_model

    loaded = open_model(files, dtype=dtype, engine=engine)

    def answer(prompts: Answers, new_tokens: int) -> Answers:
        made = generate(
            loaded, prompts, max_new_tokens=new_tokens, stop_ids=(), batch_size=len(prompts)
        )
        return [generation.ids for generation in made]

    return answer


def transformers(files: Any, dtype: str, cache: str) -> Callable[[Answers, int], Answers]:
    """One left-padded batch of transformers' own `generate`."""
    import torch

    from nexa.lm.load import load

    loaded = load(files, dtype=dtype)
    model: Any = loaded.model
    pad = loaded.tokenizer.pad_token_id or 0

    def answer(prompts: Answers, new_tokens: int) -> Answers:
        width = max(map(len, prompts))
        ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        made = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=pad,
            cache_implementation=cache,
        )
        rows: Answers = made[:, width:].tolist()
        return rows

    return answer


SIDES: dict[str, Callable[[Any, str], Callable[[Answers, int], Answers]]] = {
    "nexa-fused": lambda files, dtype: nexa(files, dtype, "fused"),
    "nexa-transformers": lambda files, dtype: nexa(files, dtype, "transformers"),
    "transformers-static": lambda files, dtype: transformers(files, dtype, "static"),
    "transformers-dynamic": lambda files, dtype: transformers(files, dtype, "dynamic"),
}


if __name__ == "__main__":
    main()
