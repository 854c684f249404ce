"""Rows of distinct text among which copies are planted, and who has found them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS, ASKED = 80, 30  # words a row, and those of them in the prompt; about 525 characters
VOCABULARY = 30_000
COMMON = 20  # word r is drawn with a probability of 1 / (r + COMMON): as in language, a few often
CHUNK = 10_000

Pairs = list[tuple[int, int]]  # a row and its copy, which comes later


@dataclass(frozen=True)
class Planted:
    """How many rows there are, and which of them are copies."""

    rows: int
    exact: Pairs
    near: Pairs

    @staticmethod
    def read(path: Path) -> Planted:
        """What `write` has kept."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs = {name: [tuple(pair) for pair in kept[name]] for name in ("exact", "near")}
        return Planted(kept["rows"], pairs["exact"], pairs["near"])


def write(folder: Path, rows: int, seed: int, share: float, files: int) -> Planted:
    """Write `files` files of rows to `folder`, and `planted.json` beside it.

    Of the rows a `share` are exact copies of an earlier row, and as many near copies: two
    neighbouring words are others, so that 74 of 82 shingles of three words are common to both.
    """
    draw = np.random.default_rng(seed)
    copies = int(rows * share)
    places = draw.permutation(rows)[: 4 * copies].reshape(-1, 2)
    pairs = [(int(a), int(b)) for a, b in np.sort(places, axis=1)]
    planted = Planted(rows, pairs[:copies], pairs[copies:])
    words = vocabulary(draw)
    drawn = draw_rows(draw, rows)
    for first, copy in pairs:
        drawn[copy] = drawn[first]
    for _, copy in planted.near:
        at = int(draw.integers(2, WORDS - 3))
        drawn[copy, at : at + 2] += draw.integers(1, VOCABULARY, 2).astype(np.uint16)
        drawn[copy, at : at + 2] %= VOCABULARY
    folder.mkdir()
    (folder.parent / "planted.json").write_text(json.dumps(asdict(planted)), encoding="utf-8")
    for number, part in enumerate(np.array_split(np.arange(rows), files)):
        with (folder / f"rows-{number}.jsonl").open("w", encoding="utf-8") as file:
            for row in part:
                said = words[drawn[row]].tolist()
                asked, answer = " ".join(said[:ASKED]), " ".join(said[ASKED:])
                line = {"id": f"r{row}", "prompt": f"{asked}?", "completion": f"{answer}."}
                file.write(json.dumps(line) + "\n")
    return planted


def vocabulary(draw: np.random.Generator) -> NDArray[np.str_]:
    """Words of two to nine letters, no two the same."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(draw.choice(letters, int(draw.integers(2, 10))))] = None
    return np.array(list(words))


def draw_rows(draw: np.random.Generator, rows: int) -> NDArray[np.uint16]:
    """The words of rows, by their places in the vocabulary."""
    shares = np.cumsum(1 / (np.arange(VOCABULARY) + COMMON))
    drawn = np.empty((rows, WORDS), np.uint16)
    for begin in range(0, rows, CHUNK):
        some = drawn[begin : begin + CHUNK]
        some[:] = np.searchsorted(shares, draw.random(some.shape) * shares[-1])
    return drawn


def judge(planted: Planted, gone: Mapping[int, str], joined: Sequence[int] = ()) -> dict[str, Any]:
    """What was found, from the rows that are gone (why) and kept rows that belong to another one.

    A copy is found if it or its first row is gone. False merges are rows that are gone or joined
    though no copy of theirs was planted.
    """
    paired = {row for pair in (*planted.exact, *planted.near) for row in pair}

    def found(pairs: Pairs) -> int:
        return sum(first in gone or copy in gone for first, copy in pairs)

    wrong = [row for row in (*gone, *joined) if row not in paired]
    both = sum(a in gone and b in gone for a, b in (*planted.exact, *planted.near))
    return {
        "rows": planted.rows,
        "exact": len(planted.exact),
        "exact_found": found(planted.exact),
        "near": len(planted.near),
        "near_found": found(planted.near),
        "false_merges": len(wrong) + both,
    }


def kept_ids(folder: Path) -> Iterator[int]:
    """The rows that a deduplication has left in `folder/*.jsonl`."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open("rb") as lines:
            for line in lines:
                yield int(json.loads(line)["id"].removeprefix("r"))
