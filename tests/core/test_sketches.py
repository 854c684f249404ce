"""Sketches tell how alike rows are, by the weight of what they share."""

from __future__ import annotations

import numpy as np

from nexa.core.sketches import BANDS, PERMUTATIONS, band_keys, sketch


def sketches(rows: list[list[int]], rarity: list[list[float]]) -> np.ndarray:
    draw = np.random.default_rng(0).integers(0, 2**63, 1000, dtype=np.uint64)
    offsets = np.cumsum([0, *map(len, rows)])
    return sketch(draw[np.concatenate(rows).astype(np.intp)], offsets, np.concatenate(rarity))


def test_equal_places_are_about_as_many_as_the_jaccard() -> None:
    a, b = list(range(80)), list(range(20, 100))
    found = sketches([a, b], [[1.0] * 80, [1.0] * 80])
    assert found.shape == (2, PERMUTATIONS)
    assert abs((found[0] == found[1]).mean() - 0.6) < 0.15


def test_what_is_rare_counts_for_more() -> None:
    a, b = list(range(80)), [*range(40), *range(100, 140)]
    common = sketches([a, b], [[1.0] * 40 + [4096.0] * 40] * 2)
    rare = sketches([a, b], [[4096.0] * 40 + [1.0] * 40] * 2)
    assert (common[0] == common[1]).mean() < 0.2 < 0.6 < (rare[0] == rare[1]).mean()


def test_a_band_has_the_key_of_its_numbers() -> None:
    draw = np.random.default_rng(0).integers(0, 2**32, (50, PERMUTATIONS), dtype=np.uint32)
    draw[1] = draw[0]
    draw[2, 4:] = draw[0, 4:]
    keys = band_keys(draw)
    assert keys.shape == (50, BANDS)
    assert (keys[0] == keys[1]).all()
    assert (keys[0] == keys[2]).tolist() == [False, *[True] * (BANDS - 1)]
    assert len(np.unique(keys[3:])) == 47 * BANDS


def test_rows_without_a_shingle_are_all_the_same() -> None:
    found = sketches([[], [1, 2], []], [[], [1.0, 1.0], []])
    assert (found[0] == found[2]).all()
    assert (found[0] != found[1]).all()
    assert band_keys(np.empty((0, PERMUTATIONS), np.uint32)).shape == (0, BANDS)
