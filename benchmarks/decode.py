"""Decoding speed: nexa.lm.local against transformers' `generate`, the same prompts, greedy.

    python benchmarks/decode.py --model FOLDER [--rows FILE.jsonl] [--new-tokens 128] [--json]

Every prompt gets exactly --new-tokens tokens, so both sides do the same work: no answer ends
early. transformers runs one left-padded batch with its static cache, the fastest of its ways in
our measurements. The two are run in turn, A B A B, each in a process of its own, so that a busy
machine slows both; the first batch of 8 tokens warms a process up and is not counted. CPU seconds
are told beside the wall clock: they change less when other work runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEFAULT_ROWS = HERE.parent / "examples" / "materials" / "eval.jsonl"
SIDES = ("nexa", "transformers")


def main() -> None:
    """Run the pairs and print, or write as JSON, what was measured."""
    options = arguments()
    if options.side:
        print(json.dumps(measure(options)))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(options.pairs):
        for side in SIDES:
            runs[side].append(run_side(side, options))
            if not options.json:
                print(side, told(runs[side][-1]))
    rates = {side: statistics.median(r["tokens_per_s"] for r in runs[side]) for side in SIDES}
    ratio = rates["nexa"] / rates["transformers"]
    if options.json:
        print(json.dumps({"runs": runs, "median": rates, "ratio": ratio}, indent=2))
    else:
        print(f"median: {rates['nexa']:.0f} against {rates['transformers']:.0f}: {ratio:.2f}x")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument(
        "--rows", type=Path, default=DEFAULT_ROWS, help="JSONL with context, prompt"
    )
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
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
        f"{run['tokens_per_s']:.0f} tokens/s, digest {run['digest'][:8]}"
    )


# -- Inside one process --------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Answer the prompts with one side."""
    from nexa.core.allocator import keep_pages
    from nexa.core.identity import canonical_json, sha256_bytes
    from nexa.lm.chat import ChatTemplate
    from nexa.lm.load import load
    from nexa.lm.resolve import resolve

    keep_pages()  # helps both sides; the eval layer does it, too
    loaded = load(resolve(options.model), dtype=options.dtype)
    template = ChatTemplate(loaded.tokenizer)
    lines = options.rows.read_text(encoding="utf-8").splitlines()[: options.prompts]
    prompts = [template.prompt(question(json.loads(line))) for line in lines]
    answer = nexa if options.side == "nexa" else transformers
    answer(loaded, prompts, 8)
    wall, cpu = time.perf_counter(), time.process_time()
    ids = answer(loaded, prompts, options.new_tokens)
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
        "digest": sha256_bytes(canonical_json(ids)),
    }


def question(row: dict[str, Any]) -> list[dict[str, str]]:
    """A row's user turn."""
    text = "\n\n".join(filter(None, (row.get("context"), row["prompt"])))
    return [{"role": "user", "content": text}]


def nexa(loaded: Any, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """Nexa's way."""
    from nexa.lm.local import generate

    made = generate(
        loaded, prompts, max_new_tokens=new_tokens, stop_ids=(), batch_size=len(prompts)
    )
    return [generation.ids for generation in made]


def transformers(loaded: Any, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """Its static cache, one left-padded batch."""
    import torch

    width = max(map(len, prompts))
    pad = loaded.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    made = loaded.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=pad,
        cache_implementation="static",
    )
    rows: list[list[int]] = made[:, width:].tolist()
    return rows


if __name__ == "__main__":
    main()
