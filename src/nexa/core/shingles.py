"""Texts as sets of shingles: three words in a row, each set as sorted numbers of 64 bits.

Many texts are done at once, their numbers in one flat array. The lowest bit of a number is no part
of its hash: it says that the shingle begins in the row's answer.

Source: Broder 1997 (shingles); Karp and Rabin 1987 (hashes of all words from one running sum).
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 3  # long enough that two notes on one subject differ, short enough for two lines
IN_ANSWER = np.uint64(1)
HASH = ~IN_ANSWER

# A number with its decimals is one word, a Chinese, Japanese or Korean character is one word.
_WORD = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d")
BLOCK_BYTES = 1 << 18  # of text, hashed at once

OTHER, LETTER, DIGIT, POINT = range(4)

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]


class Shingled(NamedTuple):
    """Rows of shingles: those of row i are `hashes[offsets[i] : offsets[i + 1]]`, ascending."""

    hashes: Hashes
    offsets: Offsets


def words(text: str) -> list[str]:
    """The words that shingles are made of, without case and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def digest_64(text: str) -> int:
    """The first 64 bits of a text's blake2b."""
    encoded = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def mix(values: Hashes) -> Hashes:
    """Steele et al.'s SplitMix64 finaliser: spreads every bit over all 64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shingle(rows: Iterable[tuple[str, str]]) -> tuple[Shingled, Offsets]:
    """Each row's distinct shingles, from its prompt and its answer, and its answer's words.

    A text shorter than a shingle is one shingle, one without words has none.
    """
    hashes, ends = hash_words([part for row in rows for part in row])
    return _shingle(hashes, ends[::2], ends[1::2]), np.diff(ends)[1::2]


def hash_words(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """The hash of each of `words(text)` of all texts, and where each text's begin."""
    parts = list(_blocks(_plain(text) for text in texts))
    found = [_hash_block(block) for block in parts]
    counts = [count for _, count in found]
    hashes = [part for part, _ in found]
    return (
        np.concatenate([*hashes, np.empty(0, np.uint64)]),
        running(np.concatenate([*counts, np.empty(0, np.int64)])),
    )


def _plain(text: str) -> bytes:
    """A text of the same words whose words bytes can tell: bytes from 128 are parts of letters."""
    if text.isascii():
        return text.lower().encode()
    return " ".join(words(text)).encode("utf-8", "surrogatepass")


def _blocks(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The texts in blocks of some size; a longer text is alone."""
    block: list[bytes] = []
    size = 0
    for text in texts:
        if block and size + len(text) > BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text) + 1
    if block:
        yield block


def _hash_block(texts: list[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes of all words of texts, and how many each text has."""
    data = np.frombuffer(b"\n".join([*texts, b""]), np.uint8)  # ends with no word
    kinds = _KINDS[data]
    points = np.flatnonzero(kinds == POINT)
    inside = (kinds[points - 1] == DIGIT) & (kinds[points + 1] == DIGIT)
    kinds[points] = np.where(inside, DIGIT, OTHER)
    change = np.flatnonzero(np.diff(kinds, prepend=np.uint8(OTHER)))
    begins = change[kinds[change] != OTHER]
    ends = change[kinds[change - 1] != OTHER]
    powers, inverses = _powers(max(1 << len(data).bit_length(), 2 * BLOCK_BYTES))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(_VALUES[data] * powers[: len(data)], out=sums[1:])
    hashes = mix((sums[ends] - sums[begins]) * inverses[begins])
    stops = np.cumsum([len(text) + 1 for text in texts])
    return hashes, np.diff(np.searchsorted(begins, stops), prepend=0)


def _shingle(hashes: Hashes, ends: Offsets, answers: Offsets) -> Shingled:
    """Shingles of rows of word hashes.

    Row i has the words `ends[i]` to `ends[i + 1]`, its answer begins with word `answers[i]`.
    """
    lengths = np.diff(ends)
    counts = np.maximum(lengths - SHINGLE_WORDS + 1, np.minimum(lengths, 1))
    offsets = running(counts)
    at = spread(ends[:-1], offsets)  # the word with which each shingle begins
    mixed = hashes[at]
    for step in range(1, SHINGLE_WORDS):
        whole = np.repeat(lengths > step, counts)
        longer = mix(mixed) + hashes[np.minimum(at + step, len(hashes) - 1)]
        mixed = np.where(whole, longer, mixed)
    mixed = (mixed & HASH) | (at >= np.repeat(answers, counts)).astype(np.uint64)
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        mixed[begin:end].sort()
    # Of equal shingles the last one stays: the one of the answer, if there is one.
    last = np.ones(len(mixed), bool)
    last[:-1] = (mixed[1:] ^ mixed[:-1]) > IN_ANSWER
    last[offsets[1:][counts > 0] - 1] = True
    return Shingled(mixed[last], running(last)[offsets])


def running(counts: NDArray[Any]) -> Offsets:
    """Offsets of rows of such lengths: 0 and the running sums."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def spread(begins: Offsets, offsets: Offsets) -> Offsets:
    """The places of rows that lie at `begins` and are as long as `offsets` says, one by one."""
    lengths = np.diff(offsets)
    return np.repeat(begins - offsets[:-1], lengths) + np.arange(offsets[-1])


@functools.lru_cache(maxsize=1)
def _powers(size: int) -> tuple[Hashes, Hashes]:
    """The powers of an odd number and of its inverse, modulo 2^64."""
    base = 0x9E3779B97F4A7C15
    steps = (np.full(size, each, np.uint64) for each in (base, pow(base, -1, 1 << 64)))
    powers, inverses = (np.cumprod(step) for step in steps)
    return powers, inverses


def _kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, OTHER, np.uint8)
    kinds[[*range(ord("a"), ord("z") + 1), *range(128, 256)]] = LETTER
    kinds[list(b"0123456789")] = DIGIT
    kinds[list(b".,")] = POINT
    return kinds


_KINDS = _kinds()
_VALUES = mix((np.arange(256, dtype=np.uint64) + np.uint64(1)) * np.uint64(0xD1342543DE82EF95))
