"""What this machine could reach on this work: its products at the model's shapes, and no more.

The limit is a ceiling in tokens a second: the speed of plain matrix products, measured at the
shapes of the model's own layers, over the floating point operations that a token costs in
training. Everything a step does beside products (norms, attention's softmax, the optimiser,
memory) is time above it.

    R rows of a product   K its inputs   N its outputs
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexa.train.batches import TokenRow

ROWS, FEWEST_ROWS = 2048, 128  # of a measured product: about what a pass of training has
BUDGET_S = 0.3  # of measuring, all shapes together
PASS_FLOPS = 20e9  # of one look at every shape; above it, fewer rows are taken

# Matrices of a layer's MLP: with a gate there are three. Others are not known here.
MLP_MATRICES = dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "granite", "olmo2"), 3
) | dict.fromkeys(("gpt2", "gpt_neox", "opt", "phi", "starcoder2"), 2)
# The same number under the names that architectures give it.
WIDTH = ("hidden_size", "n_embd")
LAYERS = ("num_hidden_layers", "n_layer")
HEADS = ("num_attention_heads", "n_head")


@dataclass(frozen=True)
class Limit:
    """The ceiling of one training on one machine."""

    gflops: float  # 1e9 operations a second, of products at the model's shapes
    flops_a_token: float
    tokens_per_s: float


@dataclass(frozen=True)
class Shapes:
    """The products of a decoder, as far as their cost goes."""

    products: tuple[tuple[int, int], ...]  # (K, N) of every linear layer of one decoder layer
    layers: int
    attention_width: int  # of all query heads together
    width: int
    vocabulary: int


def machine_limit(
    config: Mapping[str, Any],
    precision: str,
    *,
    rows: Sequence[TokenRow] = (),
    rank: int | None = 16,
    device: str = "cpu",
) -> Limit | None:
    """Measure the ceiling, in about a third of a second; None where the shapes are not known.

    `rows` are those trained on, for the share of labels and the lengths that attention sees;
    `rank` is the adapter's, None where all weights are trained. No random number is drawn and no
    setting is touched: the bytes that training makes are the same.
    """
    shapes = shapes_of(config)
    if shapes is None:
        return None
    gflops = measured_gflops(shapes.products, getattr(torch, precision), device)
    flops = flops_a_token(shapes, rows, rank)
    return Limit(gflops, flops, gflops * 1e9 / flops)


def shapes_of(config: Mapping[str, Any]) -> Shapes | None:
    """The products that a config.json tells of; None for an architecture not in the table."""
    text = config.get("text_config") or config
    matrices = MLP_MATRICES.get(text.get("model_type") or "")
    width, layers, heads = (_number(text, names) for names in (WIDTH, LAYERS, HEADS))
    vocabulary = _number(text, ("vocab_size",))
    if not (matrices and width and layers and heads and vocabulary):
        return None
    head_width = text.get("head_dim") or width // heads
    key_width = head_width * (text.get("num_key_value_heads") or heads)
    mlp = _number(text, ("intermediate_size", "ffn_dim", "n_inner")) or 4 * width
    query = heads * head_width
    attention = ((width, query), (width, key_width), (width, key_width), (query, width))
    return Shapes(
        products=(*attention, *((width, mlp),) * (matrices - 1), (mlp, width)),
        layers=layers,
        attention_width=query,
        width=width,
        vocabulary=vocabulary,
    )


def flops_a_token(shapes: Shapes, rows: Sequence[TokenRow], rank: int | None) -> float:
    """Floating point operations that one token of training costs, a product of K x N being 2KN.

    - The layers: forward and the gradient of the activations; of the weights too where all of
      them are trained (`rank` None).
    - The adapter: its two matrices forward, and both gradients.
    - Attention: two products of half a row's length (it is causal) forward, five backward, one of
      them to have the probabilities again (Dao et al. 2022, arXiv:2205.14135).
    - The head, forward and backward, where there is a label.

    SmolLM2-135M on GSM8K's rows (216 tokens, 58 % labels), rank 16: 212 + 212, 29, 29 and 66, in
    all 548 million.
    """
    inner = sum(k * n for k, n in shapes.products)
    passes = 3 if rank is None else 2
    layers = 2 * passes * inner
    adapter = 6 * (rank or 0) * sum(k + n for k, n in shapes.products)
    length, label_share = _seen(rows)
    attention = 7 * length * shapes.attention_width
    head = 2 * passes * shapes.width * shapes.vocabulary * label_share
    return shapes.layers * (layers + adapter + attention) + head


@torch.no_grad()
def measured_gflops(
    products: Sequence[tuple[int, int]], dtype: torch.dtype, device: str = "cpu"
) -> float:
    """How fast products of these shapes are: R x K by K x N, one after the other, the best of all.

    Each shape counts as often as it is in `products`. The best, because whatever else runs on the
    machine only takes from it.
    """
    counts = Counter(products)
    rows, budget_s = _rows(counts), BUDGET_S / len(counts)
    flops = seconds = 0.0
    for (k, n), count in counts.items():
        x, weight = (torch.full((m, k), 0.5, dtype=dtype, device=device) for m in (rows, n))
        flops += count * 2 * rows * k * n
        seconds += count * _best_s(x, weight, budget_s)
    return flops / seconds / 1e9


def _best_s(x_RK: Tensor, weight_NK: Tensor, budget_s: float) -> float:
    """Seconds of the fastest of as many products as the budget holds, two at least."""
    best, end = float("inf"), time.perf_counter() + budget_s
    for _ in range(2):  # the first one also prepares what the others use
        best = min(best, _once_s(x_RK, weight_NK))
    while time.perf_counter() < end:
        best = min(best, _once_s(x_RK, weight_NK))
    return best


def _once_s(x_RK: Tensor, weight_NK: Tensor) -> float:
    begin = time.perf_counter()
    torch.nn.functional.linear(x_RK, weight_NK)
    if x_RK.is_cuda:
        torch.cuda.synchronize()  # pragma: no cover  # needs a GPU
    return time.perf_counter() - begin


def _rows(counts: Mapping[tuple[int, int], int]) -> int:
    """Rows of a product: fewer for a large model, so that one look at it takes no minute."""
    rows = ROWS
    while rows > FEWEST_ROWS and sum(2 * rows * k * n for k, n in counts) > PASS_FLOPS:
        rows //= 2
    return rows


def _seen(rows: Sequence[TokenRow]) -> tuple[float, float]:
    """The mean length of the row that a token is in, and the share of tokens that bear loss.

    Without rows: 256 tokens, all of them.
    """
    tokens = sum(len(row.ids) for row in rows)
    if not tokens:
        return 256.0, 1.0
    length = sum(len(row.ids) ** 2 for row in rows) / tokens
    return length, sum(row.labels for row in rows) / tokens


def _number(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """The first of these keys that is a number above 0; else 0."""
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), 0)
