"""A GGUF file's metadata, and its tensors' bytes one at a time.

The gguf package's reader makes an array of every token and every merge, over a second for a
vocabulary of 49,152, and maps the file: what was read of it counts as memory. Here the header is
gone through once and a tensor is read when it is asked for.

Source: the GGUF specification, version 3 (version 2 differs in nothing that is read here).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from nexa.core.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
DEFAULT_ALIGNMENT = 32
STRING, ARRAY = GGUFValueType.STRING, GGUFValueType.ARRAY
# What numbers that cannot be meant end in: an alignment of 0, arrays of arrays without end.
ODD = (ArithmeticError, TypeError, RecursionError)
LENGTH = struct.Struct("<Q")
# How a plain value lies in the file, little-endian.
LAYOUTS: dict[int, str] = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


@dataclass(frozen=True)
class Held:
    """A tensor in a file: `shape` is `[..., row]`, the slowest-moving dimension first."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int  # from the beginning of the file

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // block * size

    @property
    def size_bytes(self) -> int:
        """What the tensor takes, without padding."""
        return math.prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file says, and where its tensors stand, by GGUF's names."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Held]

    @staticmethod
    def open(path: Path) -> GgufFile:
        """Read the header.

        Raises:
            ModelError: not a GGUF file, of another version or byte order, or torn.
        """
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                with mapped:
                    metadata, tensors = _Header(mapped).read()
            _require_whole(tensors, path.stat().st_size)
        except (OSError, ValueError, struct.error, LookupError, *ODD) as error:
            raise ModelError(
                f"cannot read {path.name} as GGUF", found=f"{type(error).__name__}: {error}"
            ) from error
        return GgufFile(path, metadata, tensors)

    def read(self, name: str) -> npt.NDArray[np.uint8]:
        """A tensor's bytes, `[rows, row_bytes]`.

        Raises:
            ModelError: the file was changed since it was opened.
        """
        held = self.tensors[name]
        found = np.fromfile(self.path, np.uint8, count=held.size_bytes, offset=held.offset)
        if found.nbytes != held.size_bytes:
            raise ModelError(f"{self.path.name} was cut while it was read", found=name)
        return found.reshape(-1, held.row_bytes)


def _require_whole(tensors: Mapping[str, Held], size_bytes: int) -> None:
    for name, held in tensors.items():
        if held.shape[-1] % GGML_QUANT_SIZES[held.kind][0]:
            raise ValueError(f"rows of {name} are no whole blocks of {held.kind.name}")
        if held.offset + held.size_bytes > size_bytes:
            raise ValueError(f"the file ends before {name} does")


class _Header:
    """Goes through the bytes of a header, from the beginning."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def read(self) -> tuple[dict[str, Any], dict[str, Held]]:
        if self._bytes(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._number("<I")
        if version not in VERSIONS:
            raise ValueError(f"version {version}; known are 2 and 3, little-endian")
        tensors, keys = self._number("<Q"), self._number("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            metadata[key] = self._value(self._number("<I"))
        infos = [self._info() for _ in range(tensors)]
        alignment = int(metadata.get(ALIGNMENT, DEFAULT_ALIGNMENT))
        begin = -(-self.at // alignment) * alignment
        return metadata, {
            name: Held(kind, shape, begin + offset) for name, kind, shape, offset in infos
        }

    def _info(self) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
        name = self._text()
        sizes = [self._number("<Q") for _ in range(self._number("<I"))]
        kind = GGMLQuantizationType(self._number("<I"))
        # GGUF lists the fastest-moving dimension first.
        return name, kind, tuple(reversed(sizes)), self._number("<Q")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._number(LAYOUTS[kind])
        inner, count = self._number("<I"), self._number("<Q")
        if inner == STRING:
            return self._texts(count)
        if inner == ARRAY:
            return [self._value(inner) for _ in range(count)]
        layout = np.dtype(LAYOUTS[inner])
        return np.frombuffer(self._bytes(count * layout.itemsize), layout).tolist()

    def _text(self) -> str:
        return self._bytes(self._number("<Q")).decode("utf-8")

    def _texts(self, count: int) -> list[str]:
        """As `_text` so many times; of a vocabulary, which has 100,000, in a third of the time."""
        data, at, found = self.data, self.at, []
        end, length = len(data), LENGTH.unpack_from
        for _ in range(count):
            (size,) = length(data, at)
            begin, at = at + LENGTH.size, at + LENGTH.size + size
            if at > end:
                raise ValueError("the file ends within its header")
            found.append(data[begin:at].decode("utf-8"))
        self.at = at
        return found

    def _number(self, layout: str) -> Any:
        (found,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return found

    def _bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ValueError("the file ends within its header")
        found = self.data[self.at : end]
        self.at = end
        return found
