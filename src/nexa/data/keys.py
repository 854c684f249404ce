"""Texts as keys of 16 bytes, and arrays of keys as numbers from 0: for comparing millions of them.

Two different texts have the same key once in 2^128 pairs, so equal keys are taken for equal texts.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]  # [N, 2]
Codes = NDArray[np.int64]  # [N]

KEY_BYTES = 16


def key_of(text: str) -> bytes:
    """A text's key."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def keys_of(texts: list[str]) -> Keys:
    """The keys of texts, in their order."""
    return np.frombuffer(b"".join(map(key_of, texts)), dtype="<u8").reshape(-1, 2)


def numbered(keys: Keys) -> tuple[Codes, Codes]:
    """For each row a number from 0 that equal keys share, and how many rows have each number."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.ones(len(keys), dtype=bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    codes = np.empty(len(keys), dtype=np.int64)
    codes[order] = np.cumsum(starts) - 1
    return codes, np.bincount(codes)


def within(keys: Keys, known: Keys) -> NDArray[np.bool_]:
    """Which keys are among the known ones."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    # The first half decides but for a chance of 2^-64 a pair; the second takes that away.
    maybe = np.isin(keys[:, 0], known[:, 0])
    pairs = {(int(a), int(b)) for a, b in known}
    at = np.flatnonzero(maybe)
    maybe[at] = [(int(a), int(b)) in pairs for a, b in keys[at]]
    return maybe
