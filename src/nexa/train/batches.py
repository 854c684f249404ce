"""Which rows an optimiser step holds, and how they are laid into flat batches.

A batch is whole rows laid end to end, never padded, up to `micro_tokens`; the model sees where
each document begins by its position ids. The order of rows is a pure function of (seed, epoch,
row), so a resumed run needs no replay, and a new row does not reshuffle the others.

    T tokens of a batch   N label positions in it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenRow:
    """One row as the model reads it: `ids[t]` is to be predicted where `trained[t]`."""

    row_id: str
    ids: list[int]
    trained: list[bool]

    @property
    def labels(self) -> int:
        """Tokens that bear loss. The first token of a row has nothing to be predicted from."""
        return sum(self.trained[1:])


@dataclass(frozen=True)
class Batch:
    """Rows laid end to end. `hidden[label_positions]` predicts `targets`."""

    input_ids: Tensor  # [T]
    position_ids: Tensor  # [T], restarts at 0 with every document
    lengths: tuple[int, ...]  # tokens of each document; they add up to T
    label_positions: Tensor  # [N]
    targets: Tensor  # [N]


@dataclass(frozen=True)
class Step:
    """What one optimiser step learns from; `index` counts from 0 over the whole run."""

    index: int
    epoch: int  # from 0
    batches: tuple[Batch, ...]
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens that go through the model."""
        return sum(sum(batch.lengths) for batch in self.batches)

    @property
    def label_tokens(self) -> int:
        """Tokens that bear loss: what the whole step's loss is divided by."""
        return sum(len(batch.targets) for batch in self.batches)


def steps(
    rows: Sequence[TokenRow],
    *,
    rows_per_step: int,
    total_steps: int,
    micro_tokens: int,
    seed: int,
    padded: bool = False,
    start: int = 0,
) -> Iterator[Step]:
    """The run's optimiser steps from `start` on. The last one of an epoch holds the rows left.

    A step is the same whether or not those before it were walked through: a resumed run needs no
    replay.

    `padded` says that the executor will pad each batch to its longest row, so that `micro_tokens`
    counts padding too. Neither changes what a step learns.
    """
    per_epoch = -(-len(rows) // rows_per_step)
    for index in range(start, total_steps):
        epoch, place = divmod(index, per_epoch)
        if place == 0 or index == start:
            order = row_order([row.row_id for row in rows], seed=seed, epoch=epoch)
        chosen = [rows[i] for i in order[place * rows_per_step : (place + 1) * rows_per_step]]
        parts = split(chosen, micro_tokens=micro_tokens, padded=padded)
        yield Step(index, epoch, tuple(lay(part) for part in parts), len(chosen))


def row_order(row_ids: Sequence[str], *, seed: int, epoch: int) -> list[int]:
    """The order of an epoch: rows sorted by the digest of (seed, epoch, row id)."""

    def key(i: int) -> bytes:
        return hashlib.sha256(f"{seed}/{epoch}/{row_ids[i]}/{i}".encode()).digest()

    return sorted(range(len(row_ids)), key=key)


def split(
    rows: Sequence[TokenRow], *, micro_tokens: int, padded: bool = False
) -> list[list[TokenRow]]:
    """Rows in batches of at most `micro_tokens`, longest first; a longer row has its own."""
    batches: list[list[TokenRow]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        room = micro_tokens
        if batches:
            last = batches[-1]
            held = len(last[0].ids) * len(last) if padded else sum(len(r.ids) for r in last)
            room -= held + (len(last[0].ids) if padded else len(row.ids))
        if batches and room >= 0:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def lay(rows: Sequence[TokenRow]) -> Batch:
    """Lay rows end to end."""
    lengths = tuple(len(row.ids) for row in rows)
    ids = torch.tensor([token for row in rows for token in row.ids])
    trained = torch.tensor([mark for row in rows for mark in (False, *row.trained[1:])])
    targets_at = trained.nonzero().flatten()
    return Batch(
        input_ids=ids,
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        lengths=lengths,
        # A token is predicted from the position before it, which is in the same document.
        label_positions=targets_at - 1,
        targets=ids[targets_at],
    )
