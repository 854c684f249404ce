from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nexa.weights.threads import half_of_the_cores, threads_kept


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("before", "within"), [(1, 1), (2, 1), (5, 2)])
def test_half_of_the_cores_are_left_to_others_and_at_least_one_is_kept(
    before: int, within: int
) -> None:
    torch.set_num_threads(before)
    with half_of_the_cores():
        assert torch.get_num_threads() == within
    assert torch.get_num_threads() == before


def test_what_a_block_and_its_threads_change_is_put_back_whatever_happens() -> None:
    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="broken"):
        _broken_block()
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def _broken_block() -> None:
    with threads_kept():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(torch.set_num_threads, 1).result()
        torch.set_num_threads(3)
        raise ValueError("broken")
