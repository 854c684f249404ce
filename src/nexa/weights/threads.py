"""How many cores torch takes, for the length of a block.

Its threads wait for each other by spinning: where others compute beside it, one too many of them
costs more than it brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def half_of_the_cores() -> Iterator[None]:
    """Leave the other half of what torch has now to a thread that works meanwhile."""
    with threads_kept():
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))
        yield


@contextmanager
def threads_kept() -> Iterator[None]:
    """Put back what the block, or a thread that it starts, changes."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
