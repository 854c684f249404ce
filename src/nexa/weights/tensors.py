"""Weights as names and tensors, read one at a time, whatever files hold them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.folder import weight_files

# What was read of a mapped file counts as the process's memory for as long as it is mapped.
MAPPED_BYTES = 128 << 20


class Weights(Protocol):
    """Named tensors. `tensor` gives float32, whatever is stored."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""

    def shape(self, name: str) -> tuple[int, ...]:
        """One tensor's shape; the tensor itself is not read."""

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""


class StoredWeights:
    """The tensors of some safetensors files: a whole file, or the shards of a model.

    Files are mapped: a tensor as it is stored takes memory that the system can have back at any
    time, and may be asked for from any thread.

    Raises:
        ModelError: a file that is no safetensors, or is torn.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._paths = tuple(sorted(files))
        self._open()

    def _open(self) -> None:
        """Map the files, anew if they were: what nobody holds a tensor of is no longer mapped."""
        file_of: dict[str, Any] = {}
        for path in self._paths:
            # Kept open: a header of a large model takes longer to parse than a tensor to read.
            try:
                file: Any = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(f"cannot read {path}", found=str(error)) from error
            file_of |= dict.fromkeys(file.keys(), file)
        self._file_of, self._mapped_bytes = file_of, 0

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""
        return tuple(sorted(self._file_of))

    def shape(self, name: str) -> tuple[int, ...]:
        """One tensor's shape; the tensor itself is not read."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""
        return self.stored(name).float()

    def stored(self, name: str) -> Tensor:
        """One tensor in the type it is stored in."""
        if self._mapped_bytes > MAPPED_BYTES:
            self._open()
        tensor: Tensor = self._file_of[name].get_tensor(name)
        self._mapped_bytes += tensor.nbytes
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
