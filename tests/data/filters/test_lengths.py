"""The length comes from the rows; no row is cut, and many cannot be lost."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa.core.errors import DataError
from nexa.data.filters.lengths import choose_length, drop_long, positions_of, quantiles, why_long


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=300))
def test_quantiles_are_numpys_next_higher_ones(lengths: list[int]) -> None:
    expected = np.quantile(lengths, [0.5, 0.9, 0.95, 0.99, 1.0], method="inverted_cdf")
    assert list(quantiles(lengths).values()) == expected.tolist()
    assert quantiles(np.array(lengths, np.int32)) == quantiles(lengths)


@pytest.mark.parametrize(
    ("lengths", "positions", "chosen"),
    [
        ([100] * 99 + [150], 2048, 192),  # the longest is near: none is lost
        ([100] * 199 + [4000], 8192, 128),  # one far outlier is
        ([128], 2048, 128),
        ([129], None, 192),
        ([500], 512, 512),
        ([600] * 300, 512, 512),
    ],
)
def test_the_length_is_the_longest_unless_it_is_far_out(
    lengths: list[int], positions: int | None, chosen: int
) -> None:
    assert choose_length(quantiles(lengths), positions) == chosen


def long_rows(lengths: list[int], most: int) -> list[int]:
    found = drop_long(np.array(lengths, np.int32), most, lambda row: f"rows.jsonl:{row + 1}")
    return [int(row) for row in found]


def test_a_long_row_is_left_out_whole() -> None:
    assert long_rows([10] * 99 + [1011], 1000) == [99]
    assert why_long(1011, 1000) == "too long (1,011 tokens, at most 1,000)"


def test_losing_more_than_one_row_in_a_hundred_is_an_error() -> None:
    with pytest.raises(DataError, match="2 of 100 rows are longer than 1,000 tokens") as caught:
        long_rows([10] * 98 + [1001, 2000], 1000)
    assert caught.value.fix == "data.max_length: 2000 in config.yaml, or shorten these rows"
    assert "rows.jsonl:99: too long (1,001 tokens" in str(caught.value.found)
    assert "p50 10" in str(caught.value.found)


def test_what_the_quantiles_choose_never_loses_too_many() -> None:
    draw = random.Random(0)
    for _ in range(50):
        lengths = [int(draw.lognormvariate(5, 1.5)) + 1 for _ in range(draw.randint(1, 500))]
        long_rows(lengths, choose_length(quantiles(lengths), None))


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"text_config": None}, None),
        ({}, None),
    ],
)
def test_a_models_positions_are_in_its_config(
    config: dict[str, object], positions: int | None
) -> None:
    assert positions_of(config) == positions
