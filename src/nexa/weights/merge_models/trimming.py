"""TIES' trimming: of a task vector only its largest numbers, found without sorting or copying it.

The bits of a float's magnitude, read as an integer, have the order of the magnitudes. So two
counts find the k-th largest of any number of floats exactly: of the high bits of all, then of the
low bits of those that share the high bits of the one that is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 18  # numbers that are worked on at once: a megabyte, which stays in the cache
LOW_BITS = 15
HIGH_VALUES, LOW_VALUES = 1 << (31 - LOW_BITS), 1 << LOW_BITS


class Trimmed:
    """The task vector `tensor - base` (flat) with all but its `density * n` largest numbers zero.

    Exactly `max(1, int(density * n))` numbers are kept, as in mergekit, and of equals at the
    threshold the first ones (mergekit leaves them to a sort that is not stable, so to the
    processor). That matters: task vectors of bfloat16 models have many equal numbers.

    Blocks are asked for in order, each once.
    """

    def __init__(self, tensor: Tensor, base: Tensor, density: float) -> None:
        self.tensor, self.base = tensor, base
        self.all = density == 1 or not len(tensor)
        if not self.all:
            self.threshold, self.equals = self._find(max(1, int(density * len(tensor))))

    def block(self, part: slice) -> Tensor:
        """The numbers of one part."""
        delta = self._delta(part)
        if self.all:
            return delta
        magnitudes, kept = delta.abs(), torch.empty_like(delta)  # a mask of floats is faster
        if self.equals is None:
            return delta.mul_(torch.ge(magnitudes, self.threshold, out=kept))
        torch.gt(magnitudes, self.threshold, out=kept)
        if self.equals:
            first = (magnitudes == self.threshold).nonzero()[: self.equals, 0]
            kept[first] = 1
            self.equals -= len(first)
        return delta.mul_(kept)

    def _delta(self, part: slice) -> Tensor:
        return self.tensor[part].float() - self.base[part].float()

    def _find(self, k: int) -> tuple[float, int | None]:
        """The k-th largest magnitude, and how many of its equals are kept; None: all of them."""
        counts = torch.zeros(HIGH_VALUES, dtype=torch.int64)
        for bits in self._magnitude_bits():
            counts += torch.bincount(bits >> LOW_BITS, minlength=HIGH_VALUES)
        high, k, _ = _kth_largest(counts, k)
        counts = torch.zeros(LOW_VALUES, dtype=torch.int64)
        for bits in self._magnitude_bits():
            same = bits[bits >> LOW_BITS == high]
            counts += torch.bincount(same & (LOW_VALUES - 1), minlength=LOW_VALUES)
        low, k, equals = _kth_largest(counts, k)
        bits = torch.tensor(high << LOW_BITS | low, dtype=torch.int32)
        return float(bits.view(torch.float32)), None if k == equals else k

    def _magnitude_bits(self) -> Iterator[Tensor]:
        for start in range(0, len(self.tensor), BLOCK):
            delta = self._delta(slice(start, start + BLOCK))
            yield delta.view(torch.int32).bitwise_and_(0x7FFFFFFF)


def _kth_largest(counts: Tensor, k: int) -> tuple[int, int, int]:
    """Of numbers counted by value, the k-th largest; its place among its equals; their number."""
    at_least = counts.flip(0).cumsum(0).flip(0)
    value = int((at_least >= k).nonzero()[-1])
    equals = int(counts[value])
    return value, k - int(at_least[value]) + equals, equals
