"""In how many texts each shingle is, for more shingles than memory holds.

Blocks of shingles are sorted and written aside; then one range of hashes after the other is
gathered from all blocks, sorted and counted. What is left is a table of the shingles that more than
one text has: a shingle that is not in it has one. Exact, whatever the number of texts.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexa.core.near.shelf import Mask, Shelf, in_turn
from nexa.core.shingles import HASH, Hashes, Offsets, running

PART = 1 << 20  # shingles counted at once
MOST_PARTS = 4096
MOST_INDEX_BITS = 26  # of the table's index: 256 MB

Counts = NDArray[np.uint32]


class Frequencies:
    """How many of `texts` texts have a shingle, and what it weighs."""

    def __init__(self, texts: int, hashes: Hashes, counts: Counts) -> None:
        """Take shingles of at least two texts, ascending, and their counts."""
        self.texts = texts
        self._hashes, self._counts = hashes, counts
        bits = min(max(len(hashes).bit_length(), 1), MOST_INDEX_BITS)
        self._shift = np.uint64(64 - bits)
        places = (hashes >> self._shift).astype(np.int64)
        self._starts = np.zeros((1 << bits) + 1, np.uint32)
        np.cumsum(np.bincount(places, minlength=1 << bits), out=self._starts[1:])

    def of(self, hashes: Hashes) -> Counts:
        """In how many texts each of these shingles is."""
        found = np.ones(len(hashes), np.uint32)
        place = (hashes >> self._shift).astype(np.intp)
        at, end = self._starts[place], self._starts[place + 1]
        left = np.flatnonzero(at < end)
        at, end = at[left], end[left]
        while len(left):
            same = self._hashes[at] == hashes[left]
            found[left[same]] = self._counts[at[same]]
            at += np.uint32(1)
            more = ~same & (at < end)
            left, at, end = left[more], at[more], end[more]
        return found

    def weights(self, counts: Counts) -> NDArray[np.float64]:
        """log2(1 + N / n) of shingles that n texts have."""
        weights = np.full(len(counts), np.log2(1.0 + self.texts))
        several = counts > 1
        weights[several] = np.log2(1.0 + self.texts / counts[several])
        return weights


def count(shelf: Shelf, alive: Mask, scratch: Path, workers: int) -> Frequencies:
    """Count the shingles of rows; `scratch` holds as much as the shingles for a while."""
    parts = min(max(int(shelf.offsets[-1]) // PART, 1), MOST_PARTS)
    bounds = np.array([part * 2**64 // parts for part in range(1, parts)], np.uint64)

    def sort(span: tuple[int, int]) -> Hashes:
        hashes, offsets = shelf.read(*span)
        hashes = hashes[np.repeat(alive[slice(*span)], np.diff(offsets))] & HASH
        hashes.sort()
        return hashes

    def tally(part: int) -> tuple[Hashes, Counts]:
        return _several(_gather(file.fileno(), cuts[:, part], cuts[:, part + 1]))

    # Without a name: a killed process leaves nothing behind.
    with tempfile.TemporaryFile(dir=scratch) as file:
        blocks, written = [], 0
        for hashes in in_turn(workers, sort, shelf.spans()):
            file.write(hashes.data)
            inner = np.searchsorted(hashes, bounds)
            blocks.append(written + np.concatenate([[0], inner, [len(hashes)]]))
            written += len(hashes)
        file.flush()
        cuts = np.array(blocks, np.int64).reshape(-1, parts + 1)
        found = list(in_turn(workers, tally, range(parts)))
    hashes, counts = (np.concatenate(column) for column in zip(*found, strict=True))
    return Frequencies(int(alive.sum()), hashes, counts)


def _gather(file: int, lows: Offsets, highs: Offsets) -> Hashes:
    """One range of hashes of all blocks, sorted."""
    ends = running(highs - lows)
    hashes = np.empty(int(ends[-1]), np.uint64)
    for low, begin, end in zip(lows.tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        os.preadv(file, [hashes[begin:end].data], low * 8)
    hashes.sort()
    return hashes


def _several(hashes: Hashes) -> tuple[Hashes, Counts]:
    """The hashes that are there more than once, and how often."""
    first = np.ones(len(hashes), bool)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    starts = np.append(np.flatnonzero(first), len(hashes))
    counts = np.diff(starts)
    several = np.flatnonzero(counts > 1)
    return hashes[starts[several]], counts[several].astype(np.uint32)
