"""What the machine could do at most: plain matrix products at the model's shapes, nothing else.

Run as a script in a process of its own: `limit.py MODEL bfloat16`. It prints GFLOP/s. One round
holds, for every linear layer of a decoder layer, the product of the forward pass and the one of
the gradient by the input; the median round counts, so that one disturbed round does not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .work import RANK, Work

TOKENS = 4096  # rows of every product
SECONDS = 2.0
FEWEST_ROUNDS = 5


def measured(model: Path, dtype: str) -> float:
    """GFLOP/s of this machine at this model's shapes, in a process of its own."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "contest.limit", str(model), dtype]
    told = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return float(told.stdout)


def shapes(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Inputs and outputs of the seven linear layers of a decoder layer."""
    width, mlp = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    queries = heads * head_width
    keys = (config.get("num_key_value_heads") or heads) * head_width
    attention = [(width, queries), (width, keys), (width, keys), (queries, width)]
    return [*attention, (width, mlp), (width, mlp), (mlp, width)]


def flop(config: Mapping[str, Any], work: Work, steps: int) -> float:
    """What training on the work's first steps takes: multiplications and additions, counted once.

    A frozen layer is passed forwards and, for the gradient by its input, backwards; LoRA's two
    matrices have a gradient of their own, too. Attention is counted below the diagonal only, the
    output head at label positions only: what an engine computes beyond that is its own affair.
    """
    layers, each = config["num_hidden_layers"], shapes(config)
    queries = each[3][0]
    a_token = 4 * sum(i * o for i, o in each) + 6 * RANK * sum(i + o for i, o in each)
    a_pair = 6 * queries  # scores and values, forwards once and backwards twice, half of the square
    a_label = 4 * config["hidden_size"] * config["vocab_size"]
    return float(
        layers * (a_token * sum(work.tokens[:steps]) + a_pair * sum(work.token_pairs[:steps]))
        + a_label * sum(work.label_tokens[:steps])
    )


def config_of(model: Path) -> dict[str, Any]:
    """A model's config.json."""
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return config


def main() -> None:
    """Measure, and print GFLOP/s."""
    import torch

    model, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
    layers = shapes(config_of(model))
    inputs = {i: torch.randn(TOKENS, i, dtype=dtype) for i, _ in layers}
    outputs = {o: torch.randn(TOKENS, o, dtype=dtype) for _, o in layers}
    weights = [torch.randn(o, i, dtype=dtype) for i, o in layers]
    work = sum(4 * TOKENS * i * o for i, o in layers)
    seconds: list[float] = []
    while len(seconds) <= FEWEST_ROUNDS or sum(seconds) < SECONDS:
        begin = time.perf_counter()
        for (i, o), weight in zip(layers, weights, strict=True):
            inputs[i] @ weight.T
            outputs[o] @ weight
        seconds.append(time.perf_counter() - begin)
    print(work / statistics.median(seconds[1:]) / 1e9)


if __name__ == "__main__":
    main()
