"""Copies: the first row stays, later ones are left out.

Exact copies differ in blanks and Unicode composition at most. Near-copies are `overlap.copies`: a
weighted Jaccard of SAME_ROW or more with a row that stays, the same numbers and signs, and the same
answer (a long one alike). A row in which one number or a short answer differs is another record and
stays, however alike.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexa.core.near.corpus import Corpus
from nexa.data.keys import Codes, Keys, numbered

EXACT = "exact duplicate"
NEAR = "near-duplicate"
SAME_ID = "id used twice"


@dataclass(frozen=True)
class Copies:
    """Rows that are left out, ascending, and the earlier row that each of them repeats."""

    rows: Codes
    others: Codes


def drop_exact(keys: Keys, ids: Keys, *, settled: int = 0) -> tuple[Copies, Copies]:
    """Copies, and rows that claim another row's id.

    `keys` are equal for equal rows, `ids` for equal row ids. Only a row that stays can be copied,
    or have its id claimed.
    """
    key_codes, key_sizes = numbered(keys)
    id_codes, id_sizes = numbered(ids)
    contested = np.flatnonzero((key_sizes[key_codes] > 1) | (id_sizes[id_codes] > 1))
    by_key = array("q", [-1]) * len(key_sizes)
    by_id = array("q", [-1]) * len(id_sizes)
    copies: tuple[array[int], array[int]] = (array("q"), array("q"))
    claims: tuple[array[int], array[int]] = (array("q"), array("q"))
    rows = zip(contested, key_codes[contested], id_codes[contested], strict=True)
    for row, key, id_ in ((int(r), int(k), int(i)) for r, k, i in rows):
        if row < settled:
            by_key[key] = row if by_key[key] < 0 else by_key[key]
            by_id[id_] = row if by_id[id_] < 0 else by_id[id_]
        elif by_key[key] >= 0:
            copies[0].append(row)
            copies[1].append(by_key[key])
        elif by_id[id_] >= 0:
            claims[0].append(row)
            claims[1].append(by_id[id_])
        else:
            by_key[key] = by_id[id_] = row
    return _copies(copies), _copies(claims)


def drop_near(corpus: Corpus, alive: NDArray[np.bool_], *, settled: int = 0) -> Copies:
    """Near-copies of earlier rows, among those that are still in (`alive`)."""
    earlier = corpus.copies(settled=settled, alive=alive)
    rows = np.flatnonzero((earlier >= 0) & (earlier != np.arange(len(earlier))))
    return Copies(rows, earlier[rows])


def _copies(found: tuple[array[int], array[int]]) -> Copies:
    rows, others = (np.array(numbers, dtype=np.int64) for numbers in found)
    return Copies(rows, others)
