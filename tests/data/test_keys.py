"""Equal texts have equal keys, and keys can be counted and looked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nexa.data.keys import key_of, keys_of, numbered, within


def test_equal_texts_have_equal_keys() -> None:
    assert key_of("ä") == key_of("ä") != key_of("a")
    assert keys_of(["ä", "b"]).tobytes() == key_of("ä") + key_of("b")
    assert len(key_of("\ud800")) == 16


@given(st.lists(st.integers(0, 5), max_size=30))
def test_numbers_stand_for_keys(made: list[int]) -> None:
    codes, sizes = numbered(keys_of([str(n) for n in made]))
    for a, code in zip(made, codes, strict=True):
        assert sizes[code] == made.count(a)
        assert [b for b, other in zip(made, codes, strict=True) if other == code] == [a] * int(
            sizes[code]
        )
    assert sorted(set(codes.tolist())) == list(range(len(sizes)))


def test_known_keys_are_found_by_both_halves() -> None:
    keys, known = keys_of(["a", "b", "c"]), keys_of(["b"])
    twin = np.array([[known[0, 0], known[0, 1] + np.uint64(1)]])
    assert within(np.concatenate([keys, twin]), known).tolist() == [False, True, False, False]
    assert within(keys, keys_of([])).tolist() == [False] * 3
