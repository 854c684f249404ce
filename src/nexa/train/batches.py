"""Which rows an optimiser step holds, and how they are laid into flat batches.

A batch is whole rows laid end to end, never padded, up to `micro_tokens`; the model sees where
each document begins by its position ids. What all rows of a batch begin with may be laid once, as
the piece that every other goes on from. The order of rows is a pure function of (seed, epoch, row),
so a resumed run needs no replay, and a new row does not reshuffle the others.

    T tokens of a batch   N label positions in it   P tokens of a shared beginning
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
    """Rows laid end to end. `hidden[label_positions]` predicts `targets`.

    With a `prefix` the first of `lengths` is that beginning, and the others are what each row has
    after it.
    """

    input_ids: Tensor  # [T]
    position_ids: Tensor  # [T], restarts at 0 with every document, or at P after a prefix
    lengths: tuple[int, ...]  # tokens of each piece; they add up to T
    label_positions: Tensor  # [N], none of them in the prefix
    targets: Tensor  # [N]
    prefix: int = 0  # P: tokens that all rows begin with, computed once; 0: none

    @property
    def tokens(self) -> int:
        """Tokens of the rows, a shared beginning counted for each of them."""
        return sum(self.lengths) + (self.prefix * (len(self.lengths) - 2) if self.prefix else 0)


@dataclass(frozen=True)
class Cut:
    """How a step's rows are cut into batches; none of it changes what the step learns."""

    micro_tokens: int  # tokens a batch holds at most, unless one row alone has more
    padded: bool = False  # the executor pads each batch to its longest row: that counts too
    share_prefix: bool = False  # what all rows of a batch begin with is laid once

    def batches(self, rows: Sequence[TokenRow]) -> tuple[Batch, ...]:
        """Rows laid into batches, longest first."""
        parts = split(rows, micro_tokens=self.micro_tokens, padded=self.padded)
        return tuple(lay(part, share_prefix=self.share_prefix) for part in parts)


@dataclass(frozen=True)
class Step:
    """What one optimiser step learns from; `index` counts from 0 over the whole run."""

    index: int
    epoch: int  # from 0
    batches: tuple[Batch, ...]
    rows: int
    learned: tuple[TokenRow, ...] = ()  # the rows themselves, to be cut anew

    @property
    def tokens(self) -> int:
        """Tokens of its rows, however they are laid."""
        return sum(batch.tokens for batch in self.batches)

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
    share_prefix: bool = False,
    start: int = 0,
) -> Iterator[Step]:
    """The run's optimiser steps from `start` on. The last one of an epoch holds the rows left.

    A step is the same whether or not those before it were walked through: a resumed run needs no
    replay.

    `micro_tokens`, `padded` and `share_prefix` are those of `Cut`.
    """
    cut = Cut(micro_tokens, padded, share_prefix)
    per_epoch = -(-len(rows) // rows_per_step)
    for index in range(start, total_steps):
        epoch, place = divmod(index, per_epoch)
        if place == 0 or index == start:
            order = row_order([row.row_id for row in rows], seed=seed, epoch=epoch)
        mine = order[place * rows_per_step : (place + 1) * rows_per_step]
        chosen = tuple(rows[i] for i in mine)
        yield Step(index, epoch, cut.batches(chosen), len(chosen), chosen)


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


def lay(rows: Sequence[TokenRow], share_prefix: bool = False) -> Batch:
    """Lay rows end to end; with `share_prefix`, what they all begin with only once."""
    prefix = common_prefix(rows) if share_prefix and len(rows) > 1 else 0
    shared = [TokenRow("", rows[0].ids[:prefix], [False] * prefix)] if prefix else []
    begins = [0] * len(shared) + [prefix] * len(rows)
    pieces = [*shared, *(TokenRow("", row.ids[prefix:], row.trained[prefix:]) for row in rows)]
    lengths = tuple(len(piece.ids) for piece in pieces)
    ids = torch.tensor([token for piece in pieces for token in piece.ids])
    # The first token of a piece is never a target: there is nothing of its own before it.
    trained = torch.tensor([mark for piece in pieces for mark in (False, *piece.trained[1:])])
    targets_at = trained.nonzero().flatten()
    ranges = zip(begins, lengths, strict=True)
    return Batch(
        input_ids=ids,
        position_ids=torch.cat([torch.arange(begin, begin + n) for begin, n in ranges]),
        lengths=lengths,
        # A token is predicted from the position before it, which is in the same piece.
        label_positions=targets_at - 1,
        targets=ids[targets_at],
        prefix=prefix,
    )


def common_prefix(rows: Sequence[TokenRow]) -> int:
    """Tokens that all rows begin with and that none of them needs for itself.

    It ends before the position that predicts any row's first label, and every row goes on after it.
    """
    # Of sorted lists, the first and the last differ no later than any two others.
    low, high = min(row.ids for row in rows), max(row.ids for row in rows)
    shorter = min(len(low), len(high))
    alike = next((i for i in range(shorter) if low[i] != high[i]), shorter)
    return max(0, min(alike, *(_own_from(row) for row in rows)))


def _own_from(row: TokenRow) -> int:
    """The first position that only this row may compute."""
    first = next((i for i, mark in enumerate(row.trained) if mark and i), len(row.ids))
    return first - 1
