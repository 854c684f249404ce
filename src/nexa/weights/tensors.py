"""Weights as names and tensors, read one at a time, whatever files hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.folder import weight_files


class Weights(Protocol):
    """Named tensors. `tensor` gives float32, whatever is stored."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""


class StoredWeights:
    """The tensors of some safetensors files: a whole file, or the shards of a model."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._file_of: dict[str, Any] = {}
        for path in sorted(files):
            # Kept open: a header of a large model takes longer to parse than a tensor to read.
            file: Any = safe_open(path, framework="pt")
            self._file_of |= dict.fromkeys(file.keys(), file)

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""
        return tuple(sorted(self._file_of))

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""
        return self.stored(name).float()

    def stored(self, name: str) -> Tensor:
        """One tensor in the type it is stored in."""
        tensor: Tensor = self._file_of[name].get_tensor(name)
        return tensor


def model_weights(folder: Path) -> StoredWeights:
    """The weights of a model folder.

    Raises:
        ModelError: the folder has none as safetensors.
    """
    names = sorted(path.name for path in folder.iterdir())
    files = weight_files(names)
    if not files:
        raise ModelError(f"{folder} has no weights as safetensors", found=", ".join(names[:8]))
    return StoredWeights(folder / name for name in files)


def shards(
    weights: Weights, *, dtype: torch.dtype, limit_bytes: int
) -> Iterator[Mapping[str, Tensor]]:
    """The weights in `dtype`, in groups of at most `limit_bytes` (or one tensor, if larger)."""
    group: dict[str, Tensor] = {}
    size = 0
    for name in weights.names:
        tensor = weights.tensor(name).to(dtype).contiguous()
        if group and size + tensor.nbytes > limit_bytes:
            yield group
            group, size = {}, 0
        group[name] = tensor
        size += tensor.nbytes
    yield group
