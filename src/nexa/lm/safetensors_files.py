"""Write safetensors one tensor at a time, in any order and from several threads.

The safetensors package wants all tensors of a file in memory at once: 28 GB for a model of 7B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """A tensor that is to come."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class SafetensorsWriter:
    """A model's weight files in `folder`: one file, or shards of at most `limit_bytes`.

    Used with `with`; the files have their final names when the block ends well, and are gone when
    it does not.
    """

    def __init__(self, folder: Path, slots: Sequence[Slot], *, limit_bytes: int) -> None:
        raise NotImplementedError

    def write(self, name: str, tensor: Tensor) -> None:
        """Put one tensor in its place, rounded to the slot's type; safe from any thread."""
        raise NotImplementedError
