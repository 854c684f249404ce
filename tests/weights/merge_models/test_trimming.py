"""TIES' trimming against a sort."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from nexa.weights.merge_models.trimming import BLOCK, Trimmed

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
EIGHTHS = st.integers(-16, 16).map(lambda i: i / 8)  # many that are equal


def trimmed(delta: Tensor, density: float) -> NDArray[np.float32]:
    whole = Trimmed(delta, torch.zeros(()).expand(len(delta)), density)
    parts = [slice(start, start + BLOCK) for start in range(0, len(delta), BLOCK)]
    found: NDArray[np.float32] = torch.cat([whole.block(part) for part in parts]).numpy()
    return found


def sorted_and_cut(delta: Tensor, density: float) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = delta.numpy()
    order = np.argsort(-np.abs(numbers), kind="stable")
    kept = np.zeros_like(numbers)
    largest = order[: max(1, int(density * len(numbers)))]
    kept[largest] = numbers[largest]
    return kept


@given(st.lists(FLOATS | EIGHTHS, min_size=1, max_size=60), st.floats(0.01, 1))
@example([0.0, -0.0, 1e-45, -1e-45, 1e-45], 0.5)
@example([3.4e38, -3.4e38, 1.0], 0.34)
def test_the_largest_numbers_are_kept_and_of_equals_the_first(
    numbers: list[float], density: float
) -> None:
    delta = torch.tensor(numbers)
    assert np.array_equal(trimmed(delta, density), sorted_and_cut(delta, density))


def test_it_is_exact_over_many_blocks_with_many_equal_numbers() -> None:
    """A task vector of bfloat16 models: a few hundred magnitudes, thousands of each."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2 * BLOCK + 77, generator=generator).bfloat16()
    tuned = (base.float() * (1 + 0.02 * torch.randn(len(base), generator=generator))).bfloat16()
    delta = tuned.float() - base.float()
    for density in (0.001, 0.3, 0.5, 0.99):
        assert np.array_equal(trimmed(delta, density), sorted_and_cut(delta, density))


def test_one_number_is_kept_however_low_the_density() -> None:
    assert trimmed(torch.tensor([1.0, -5.0, 2.0]), 0.01).tolist() == [0.0, -5.0, 0.0]


def test_a_threshold_that_all_its_equals_pass_needs_no_count() -> None:
    whole = Trimmed(torch.tensor([4.0, 3.0, -3.0, 1.0]), torch.zeros(4), 0.75)
    assert (whole.threshold, whole.equals) == (3.0, None)
    assert whole.block(slice(0, 4)).tolist() == [4.0, 3.0, -3.0, 0.0]
