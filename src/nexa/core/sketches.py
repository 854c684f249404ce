"""MinHash sketches in which a shingle counts by its rarity, and the bands that are compared.

Source: Broder 1997 (MinHash); rensa's R-MinHash.
"""

from __future__ import annotations

import numpy as np
import rensa
from numpy.typing import NDArray

from nexa.core.shingles import Hashes, Offsets, mix, running

# 32 bands of 4: a pair of Jaccard 0.7 is missed once in 6,000, of 0.8 once in 20 million.
PERMUTATIONS = 128
BANDS = 32
ROWS = 1024  # sketched at once: bounds the memory of the weighted copies

Sketches = NDArray[np.uint32]


def sketch(hashes: Hashes, offsets: Offsets, rarity: NDArray[np.float64]) -> Sketches:
    """Sketches `[rows, PERMUTATIONS]` of rows of shingles, each with its N / n.

    A shingle enters once for every two bits of its rarity, so that the sketch, too, looks past
    what all rows share.
    """
    copies = 1 + (np.log2(rarity) / 2).astype(np.int64)
    ends = running(copies)
    copy = np.arange(ends[-1], dtype=np.uint64) - np.repeat(ends[:-1], copies).astype(np.uint64)
    copy *= np.uint64(0x9E3779B97F4A7C15)
    tokens = mix((np.repeat(hashes, copies) + copy).astype(np.uint64))
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        tokens, ends[offsets], PERMUTATIONS, 0
    )
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, PERMUTATIONS)


def band_keys(sketches: Sketches) -> NDArray[np.uint32]:
    """A key of each band `[rows, BANDS]`: of equal bands equal, of others once in 2^32."""
    halves = np.ascontiguousarray(sketches).view(np.uint64).reshape(len(sketches), BANDS, 2)
    return (mix(mix(halves[..., 0]) + halves[..., 1]) >> np.uint64(32)).astype(np.uint32)
