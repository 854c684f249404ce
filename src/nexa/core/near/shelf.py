"""Shingles of many rows in files: written once by many processes, read in blocks or by row.

A file is `hashes [S] u64`, `counts [N] u32`, `keys [N] u64`, `prompts [N] u64`, then N, S and a
mark as three u64; all little-endian. `keys` are `overlap.row_key`, `prompts` digests of what is
asked (0: nothing is).
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nexa.core.errors import IntegrityError
from nexa.core.overlap import Example, normalise, row_key
from nexa.core.shingles import (
    Hashes,
    Shingled,
    digest_64,
    running,
    shingle,
)

MARK = 0x31656C676E696873  # "shingle1"
TRAILER = 3 * 8
BLOCK = 1 << 20  # shingles read at once: 8 MB, and some copies of it

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Item = TypeVar("Item")
Result = TypeVar("Result")


class ShingleWriter:
    """One file of what `Corpus` needs of consecutive rows, written by one process.

    A context manager: the file is there when it ends well, and not at all if it does not.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._aside = path, path.with_name(f"{path.name}.part")
        self._file = self._aside.open("wb")
        self._counts: list[NDArray[np.uint32]] = []
        self._keys: list[int] = []
        self._prompts: list[int] = []

    def __enter__(self) -> ShingleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._finish()
        if kind is None:
            self._aside.replace(self._path)
        else:
            self._aside.unlink()

    def add(self, rows: Sequence[Example]) -> None:
        """Append rows in their order, some hundreds at once: shingles, `row_key`, prompt."""
        shingled, answer_words = shingle([(row.prompt, row.answer) for row in rows])
        self._file.write(shingled.hashes.astype("<u8", copy=False).data)
        self._counts.append(np.diff(shingled.offsets).astype(np.uint32))
        self._keys += map(row_key, rows, answer_words.tolist())
        self._prompts += map(prompt_key, rows)

    def _finish(self) -> None:
        counts = np.concatenate([*self._counts, np.empty(0, np.uint32)])
        self._file.write(counts.astype("<u4").data)
        for column in (self._keys, self._prompts):
            self._file.write(np.array(column, "<u8").data)
        self._file.write(np.array([len(counts), counts.sum(dtype=np.uint64), MARK], "<u8").data)


def prompt_key(row: Example) -> int:
    """A digest of what a row asks, equal for equal normalised prompts; 0 if it asks nothing."""
    return digest_64(normalise(row.prompt)) | 1 if row.prompt.strip() else 0


class Shelf:
    """The rows of several files as one sequence."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read all but the shingles.

        Raises:
            IntegrityError: a file is not one that `ShingleWriter` has finished.
        """
        self._files = list(files)
        parts = [_columns(path) for path in files]
        self.keys: Hashes = _joined([part[1] for part in parts], np.uint64)
        self.prompts: Hashes = _joined([part[2] for part in parts], np.uint64)
        self.offsets = running(_joined([part[0] for part in parts], np.uint32))
        self._begins = running(np.array([len(part[0]) for part in parts], np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Consecutive rows of one file, about BLOCK shingles each."""
        for begin, end in itertools.pairwise(self._begins.tolist()):
            while begin < end:
                most = self.offsets[begin] + BLOCK
                stop = int(np.searchsorted(self.offsets, most, side="right")) - 1
                stop = min(max(stop, begin + 1), end)
                yield begin, stop
                begin = stop

    def read(self, begin: int, end: int) -> Shingled:
        """The shingles of rows of one file."""
        file = int(np.searchsorted(self._begins, begin, side="right")) - 1
        first = self.offsets[self._begins[file]]
        at, stop = self.offsets[begin], self.offsets[end]
        hashes = np.fromfile(
            self._files[file], "<u8", int(stop - at), offset=int(at - first) * 8
        ).astype(np.uint64, copy=False)
        return Shingled(hashes, self.offsets[begin : end + 1] - at)

    def take(self, rows: Rows) -> Shingled:
        """The shingles of any rows, given in ascending order."""
        offsets = running(self.offsets[rows + 1] - self.offsets[rows])
        hashes = np.empty(int(offsets[-1]), "<u8")
        cuts = np.searchsorted(rows, self._begins)
        for number, (low, high) in enumerate(itertools.pairwise(cuts.tolist())):
            if low < high:
                first = self.offsets[self._begins[number]]
                # Rows that follow each other are read at once.
                runs = low + np.flatnonzero(np.diff(rows[low:high], prepend=-2) != 1)
                ends = offsets[np.append(runs, high)].tolist()
                begins = (self.offsets[rows[runs]] - first).tolist()
                # Not mapped: around each row that is touched, the system maps 64 KB of others.
                with self._files[number].open("rb", buffering=0) as file:
                    for begin, at, end in zip(begins, ends[:-1], ends[1:], strict=True):
                        os.preadv(file.fileno(), [hashes[at:end].data], begin * 8)
        return Shingled(hashes.astype(np.uint64, copy=False), offsets)


def _columns(path: Path) -> tuple[NDArray[np.uint32], Hashes, Hashes]:
    """Counts, keys and prompts of a file."""
    size = path.stat().st_size
    end = np.fromfile(path, "<u8", offset=max(size - TRAILER, 0))
    if len(end) != 3 or end[2] != MARK or int(end[1]) * 8 + int(end[0]) * 20 + TRAILER != size:
        raise IntegrityError(f"{path} is not a finished file of shingles", found=f"{size:,} bytes")
    rows, at = int(end[0]), int(end[1]) * 8
    counts = np.fromfile(path, "<u4", rows, offset=at).astype(np.uint32, copy=False)
    keys, prompts = np.fromfile(path, "<u8", 2 * rows, offset=at + 4 * rows).reshape(2, rows)
    return counts, keys.astype(np.uint64, copy=False), prompts.astype(np.uint64, copy=False)


def _joined(parts: Sequence[NDArray[Any]], dtype: type[Any]) -> NDArray[Any]:
    return np.concatenate([*parts, np.empty(0, dtype)])


def in_turn(
    workers: int, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """The results of `work`, in the items' order; only a few are ahead of who takes them."""
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
