"""Amounts as people write them."""

from __future__ import annotations

import pytest

from nexa.core.units import seconds, size_bytes


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (90, 90),
        (1.5, 1.5),
        ("45", 45),
        ("90s", 90),
        ("30m", 1800),
        ("30 min", 1800),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("1d", 86400),
        (" 2 H ", 7200),
    ],
)
def test_spans_are_read_in_seconds(told: object, read: float) -> None:
    assert seconds(told) == read


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (6_000_000_000, 6 * 10**9),
        (6e9, 6 * 10**9),
        ("6GB", 6 * 10**9),
        ("6 gb", 6 * 10**9),
        ("800MB", 8 * 10**8),
        ("500 kB", 5 * 10**5),
        ("5.5GiB", 5905580032),
        ("1TB", 10**12),
        ("1TiB", 1 << 40),
        ("1GB 500MB", 15 * 10**8),
    ],
)
def test_sizes_are_read_in_bytes(told: object, read: float) -> None:
    found = size_bytes(told)
    assert found == read
    assert isinstance(found, int)


@pytest.mark.parametrize(
    "told", [True, None, "", "soon", "-3s", "3 weeks", "1 30m", "1h30", "1,5h", "nan", [3], "3s!"]
)
def test_what_is_no_amount_is_refused_with_examples(told: object) -> None:
    with pytest.raises(ValueError, match=r"should be a number of seconds, .*: 90s, 30m, 2h, 1d"):
        seconds(told)
    with pytest.raises(ValueError, match=r"should be a number of bytes, .*: 800MB, 6GB, 5\.5GiB"):
        size_bytes(told)
