"""How long rows are as tokens, and how long one may be.

A row is never cut: it is whole or it is left out, and losing more than 1 % of the rows is an
error. The length comes from the rows themselves: the longest if it is not far from the rest, else
the 99th percentile; rounded up to 64 and never more than the model has positions for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexa.core.errors import TruncationError

REFUSED = "refused by the chat template"
TOO_LONG = "too long"

MULTIPLE = 64  # tensor shapes that accelerators and their compilers like
# One row of twice the usual length costs less memory than one lost row costs.
OUTLIER = 2
MAX_LOST = 0.01

Lengths = NDArray[np.int32]


def quantiles(lengths: Sequence[int] | Lengths) -> dict[str, int]:
    """Tokens a row: p50 p90 p95 p99 max. A quantile is a length that a row has."""
    ordered = np.sort(np.asarray(lengths))
    at = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: int(ordered[math.ceil(q * len(ordered)) - 1]) for name, q in at.items()}


def choose_length(found: dict[str, int], positions: int | None) -> int:
    """Tokens a row may have, from the quantiles and the model's positions."""
    wanted = found["max"] if found["max"] <= OUTLIER * found["p99"] else found["p99"]
    rounded = math.ceil(wanted / MULTIPLE) * MULTIPLE
    return min(rounded, positions) if positions else rounded


def positions_of(config: dict[str, Any]) -> int | None:
    """How many positions a model has, by its config.json; None if it does not say."""
    for part in (config, config.get("text_config") or {}):
        for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


def drop_long(lengths: Lengths, max_length: int, origin: Callable[[int], str]) -> NDArray[np.int64]:
    """Which rows have more than `max_length` tokens; `origin` says where one of them stands.

    Raises:
        TruncationError: they are more than 1 % of the rows.
    """
    long = np.flatnonzero(lengths > max_length)
    if len(long) > MAX_LOST * len(lengths):
        first = int(long[0])
        raise TruncationError(
            f"{len(long):,} of {len(lengths):,} rows are longer than {max_length:,} "
            f"tokens: more than {MAX_LOST:.0%} of the rows would be lost",
            found=f"{origin(first)}: {why_long(int(lengths[first]), max_length)}\n"
            + ", ".join(f"{k} {v:,}" for k, v in quantiles(lengths).items()),
            fix=f"data.max_length: {int(lengths.max())} in config.yaml, or shorten these rows",
        )
    return long


def why_long(tokens: int, max_length: int) -> str:
    """The numbers, as a reject tells them."""
    return f"too long ({tokens:,} tokens, at most {max_length:,})"
