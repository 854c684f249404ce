"""How long rows are as tokens, and how long one may be.

A row is never cut: it is whole or it is left out, and losing more than 1 % of the rows is an
error. The length comes from the rows themselves: the longest if it is not far from the rest, else
the 99th percentile; rounded up to 64 and never more than the model has positions for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexa.core.errors import TemplateError, TruncationError
from nexa.core.events import progress
from nexa.data.rows import Reject, Row
from nexa.lm.chat import ChatTemplate

REFUSED = "refused by the chat template"
TOO_LONG = "too long"

MULTIPLE = 64  # tensor shapes that accelerators and their compilers like
# One row of twice the usual length costs less memory than one lost row costs.
OUTLIER = 2
MAX_LOST = 0.01
BATCH = 512


@dataclass(frozen=True)
class Measured:
    """Rows that the template takes, with their tokens, and those it refuses."""

    rows: list[Row]
    lengths: list[int]
    refused: list[Reject]


def measure(rows: Sequence[Row], template: ChatTemplate) -> Measured:
    """Render every row as training will.

    Raises:
        TemplateError: the template refuses all rows: the first refusal.
    """
    kept, lengths, refused = [], [], []
    first: TemplateError | None = None
    with progress("rendering", len(rows), "rows") as bar:
        rendered = template.render_each(row.content.messages for row in rows)
        for row, result in zip(rows, rendered, strict=True):
            if isinstance(result, TemplateError):
                first = first or result
                why = result.what + (f" ({result.found})" if result.found else "")
                refused.append(Reject(row.line, REFUSED, why))
            else:
                kept.append(row)
                lengths.append(len(result.ids))
            if (len(kept) + len(refused)) % BATCH == 0:
                bar.advance(BATCH)
        bar.advance(len(rows) % BATCH)
    if first is not None and not kept:
        raise first
    return Measured(kept, lengths, refused)


def quantiles(lengths: Sequence[int]) -> dict[str, int]:
    """Tokens a row: p50 p90 p95 p99 max. A quantile is a length that a row has."""
    ordered = sorted(lengths)
    at = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: ordered[math.ceil(q * len(ordered)) - 1] for name, q in at.items()}


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


def drop_long(measured: Measured, max_length: int) -> tuple[list[Row], list[Reject]]:
    """Leave out rows of more than `max_length` tokens.

    Raises:
        TruncationError: that would be more than 1 % of the rows.
    """
    kept, rejects = [], []
    for row, tokens in zip(measured.rows, measured.lengths, strict=True):
        if tokens <= max_length:
            kept.append(row)
        else:
            detail = f"too long ({tokens:,} tokens, at most {max_length:,})"
            rejects.append(Reject(row.line, TOO_LONG, detail))
    if len(rejects) > MAX_LOST * len(measured.rows):
        raise TruncationError(
            f"{len(rejects):,} of {len(measured.rows):,} rows are longer than {max_length:,} "
            f"tokens: more than {MAX_LOST:.0%} of the rows would be lost",
            found=f"{rejects[0].line.origin}: {rejects[0].detail}\n"
            + ", ".join(f"{k} {v:,}" for k, v in quantiles(measured.lengths).items()),
            fix=f"data.max_length: {max(measured.lengths)} in config.yaml, or shorten these rows",
        )
    return kept, rejects
