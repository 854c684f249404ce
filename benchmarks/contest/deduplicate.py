"""Nexa's deduplication alone, with the parts that `nexa data prepare` uses, for equal work.

    python contest/deduplicate.py ROWS_FOLDER OUT_FOLDER

Two processes read `ROWS_FOLDER/*.jsonl` (prompt, completion, id) and shingle; exact copies, copies
that differ in a word or two, and clusters follow; the rows that stay are written to `kept`.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from nexa.core.near.corpus import Corpus, ShingleWriter
from nexa.core.overlap import NEAR_DUPLICATE, Example, normalise
from nexa.data.keys import Keys, keys_of, numbered

WORKERS = 2
BATCH = 512  # rows


def main() -> None:
    """Read, compare, write."""
    rows, out = map(Path, sys.argv[1:])
    out.mkdir()
    files = sorted(rows.glob("*.jsonl"))
    shingles = [out / f"{file.stem}.shingles" for file in files]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        keys = np.concatenate(list(pool.map(shingle, files, shingles)))
    codes, _ = numbered(keys)
    alive = np.zeros(len(keys), bool)
    alive[np.unique(codes, return_index=True)[1]] = True
    corpus = Corpus(shingles, out, workers=WORKERS)
    alive &= corpus.copies(alive=alive) == np.arange(len(keys))
    clusters = corpus.memberships(NEAR_DUPLICATE, alive=alive)
    np.save(out / "heads.npy", clusters.heads)
    (out / "kept").mkdir()
    begin = 0
    for file in files:
        with file.open("rb") as lines, (out / "kept" / file.name).open("wb") as kept:
            for number, line in enumerate(lines, begin):
                if alive[number]:
                    kept.write(line)
                begin = number + 1


def shingle(file: Path, path: Path) -> Keys:
    """Write the shingles of a file's rows; returns a key a row, equal for exact copies."""
    keys = []
    with ShingleWriter(path) as writer:
        for rows in batches(file):
            writer.add(rows)
            asked = [f"{normalise(row.prompt)}\0{normalise(row.answer)}" for row in rows]
            keys.append(keys_of(asked))
    return np.concatenate(keys)


def batches(file: Path) -> Iterator[list[Example]]:
    """A file's rows, some at once."""
    rows = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            rows.append(Example(row["prompt"], row["completion"]))
            if len(rows) == BATCH:
                yield rows
                rows = []
    yield rows


if __name__ == "__main__":
    main()
