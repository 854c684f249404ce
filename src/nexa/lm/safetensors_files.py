"""Write safetensors one tensor at a time, in any order and from several threads.

The safetensors package wants all tensors of a file in memory at once: 28 GB for a model of 7B.
Here the header is written first, as every size is known, and each tensor goes to its place.

    model.safetensors                      one file up to `limit_bytes`
    model-00001-of-00003.safetensors       else shards, and
    model.safetensors.index.json           which tensor is in which
"""

from __future__ import annotations

import json
import math
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from nexa.core.errors import ModelError, nearest
from nexa.core.store import require_space, storage_error, sync_folder, write_atomic

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Safetensors' names, in the order in which its package lays tensors: the widest come first.
DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}
RESERVED = "__metadata__"
CLOSED = -1
BLOCK_NUMBERS = 1 << 22  # rounded at once: what a tensor costs beside itself


@dataclass(frozen=True)
class Slot:
    """A tensor that is to come."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


class SafetensorsWriter:
    """A model's weight files in `folder`: one file, or shards of at most `limit_bytes`.

    Used with `with`; the files have their final names when the block ends well, and are gone when
    it does not. A shard takes the slots as they come, until the next would not fit; a tensor
    larger than `limit_bytes` has a shard of its own. In a file they lie as the safetensors package
    lays them (by type, then by name), or as they come where `as_given` is true. With `durable` the
    files are flushed to the disk itself; a folder that will be copied needs none of it.

    Raises:
        ModelError: no slots, two of one name, or a type that safetensors does not have.
        StorageError: no space for all of them, which is known before the first tensor.
    """

    def __init__(
        self,
        folder: Path,
        slots: Sequence[Slot],
        *,
        limit_bytes: int,
        as_given: bool = False,
        durable: bool = True,
    ) -> None:
        _require_writable(slots)
        self.folder = folder
        self.size_bytes = sum(slot.size_bytes for slot in slots)
        self._durable = durable
        parts = list(_shards(slots, limit_bytes))
        names = [SINGLE]
        if len(parts) > 1:
            count = len(parts)
            names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
        self._files = [
            _File(folder / name, part if as_given else sorted(part, key=_package_order))
            for name, part in zip(names, parts, strict=True)
        ]
        self._file_of = {slot.name: file for file in self._files for slot in file.slots}
        # In the order of the slots as they came, which is what an index is read in.
        self._weight_map = {slot.name: self._file_of[slot.name].path.name for slot in slots}
        self._missing = set(self._file_of)
        self._open = False
        self._writing = 0
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        """Take the space and write the headers."""
        require_space(self.folder, self.size_bytes, "the weights")
        try:
            for file in self._files:
                file.open()
        except BaseException:
            self._remove()
            raise
        self._open = True
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Put one tensor in its place, rounded to the slot's type; safe from any thread.

        Raises:
            ModelError: no such slot, another shape, numbers that the slot's type does not round, or
                the second tensor of this name.
            StorageError: the disk would not take it.
        """
        file = self._file_of.get(name)
        if file is None:
            near = nearest(name, self._file_of)
            _refuse(f"there is no place for the tensor {name}", f"nearest: {near}" if near else "")
        slot = file.slots_by_name[name]
        _require_fit(slot, tensor)
        with self._changed:
            if not self._open:
                _refuse("tensors are written inside `with`")
            if name not in self._missing:
                _refuse(f"the tensor {name} came twice")
            self._missing.discard(name)
            self._writing += 1
        try:
            file.write(slot, tensor)
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the files their names; remove them if the block or a tensor failed."""
        with self._changed:
            self._open = False
            # A thread that outlived an interrupted block must not write to a file that is closed:
            # its number may be another file's by then.
            self._changed.wait_for(lambda: not self._writing)
        try:
            if kind is None:
                self._finish()
        finally:
            self._remove()

    def _finish(self) -> None:
        if self._missing:
            missing = sorted(self._missing)
            _refuse(f"{len(missing)} tensors never came", ", ".join(missing[:5]))
        for file in self._files:
            file.close(durable=self._durable)
        for file in self._files:
            file.place()
        if len(self._files) > 1:
            # Last of all: without it nobody takes the shards for a model.
            index = {"metadata": {"total_size": self.size_bytes}, "weight_map": self._weight_map}
            text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
            write_atomic(self.folder / INDEX, text.encode())
        if self._durable:
            sync_folder(self.folder)

    def _remove(self) -> None:
        for file in self._files:
            file.remove()


class _File:
    """One file under way: aside until it is placed."""

    def __init__(self, path: Path, slots: Sequence[Slot]) -> None:
        self.path, self.slots = path, slots
        self.slots_by_name = {slot.name: slot for slot in slots}
        self._aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._header, self._starts, self._size_bytes = _header(slots)
        self._handle = CLOSED

    def open(self) -> None:
        try:
            self._handle = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.posix_fallocate(self._handle, 0, self._size_bytes)
            self._put(memoryview(self._header), 0)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def write(self, slot: Slot, tensor: Tensor) -> None:
        at = self._starts[slot.name]
        try:
            for block in _blocks(tensor):
                data = block.to(slot.dtype).contiguous().view(-1).view(torch.uint8).numpy().data
                self._put(data, at)
                at += data.nbytes
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self, *, durable: bool) -> None:
        if self._handle != CLOSED:
            try:
                if durable:
                    os.fsync(self._handle)
            except OSError as error:  # pragma: no cover  # a disk that fails while it is flushed
                raise storage_error(self.path, error) from error
            finally:
                os.close(self._handle)
                self._handle = CLOSED

    def place(self) -> None:
        try:
            self._aside.replace(self.path)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def remove(self) -> None:
        self.close(durable=False)
        self._aside.unlink(missing_ok=True)

    def _put(self, data: memoryview, at: int) -> None:
        """Write all of it at this place; the system may take less at a time."""
        while data:
            written = os.pwrite(self._handle, data, at)
            data, at = data[written:], at + written


def _header(slots: Sequence[Slot]) -> tuple[bytes, dict[str, int], int]:
    """A file's first bytes, where each tensor begins in the file, and the file's size.

    Format: the length of the JSON (8 bytes, little-endian), the JSON padded to 8 bytes, the data.
    """
    told: dict[str, Any] = {RESERVED: {"format": "pt"}}
    end = 0
    for slot in slots:
        start, end = end, end + slot.size_bytes
        told[slot.name] = {
            "dtype": DTYPES[slot.dtype],
            "shape": list(slot.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    starts = {slot.name: len(header) + told[slot.name]["data_offsets"][0] for slot in slots}
    return header, starts, len(header) + end


def _shards(slots: Sequence[Slot], limit_bytes: int) -> Iterator[list[Slot]]:
    """The slots in groups of at most `limit_bytes`, in their order."""
    group: list[Slot] = []
    size = 0
    for slot in slots:
        if group and size + slot.size_bytes > limit_bytes:
            yield group
            group, size = [], 0
        group.append(slot)
        size += slot.size_bytes
    yield group


def _package_order(slot: Slot) -> tuple[int, bytes]:
    return RANK[slot.dtype], slot.name.encode()


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor in pieces of about BLOCK_NUMBERS, cut along its first dimension."""
    whole = tensor.detach()
    if whole.is_contiguous() or not whole.ndim:
        yield from whole.reshape(-1).split(BLOCK_NUMBERS)
        return
    rows = max(1, BLOCK_NUMBERS * whole.shape[0] // max(1, whole.numel()))
    yield from whole.split(rows)


def _require_writable(slots: Sequence[Slot]) -> None:
    names = Counter(slot.name for slot in slots)
    doubled = sorted(name for name, count in names.items() if count > 1)
    strange = sorted({str(slot.dtype) for slot in slots if slot.dtype not in DTYPES})
    if not slots:
        _refuse("there are no tensors to write")
    if doubled or RESERVED in names:
        _refuse("the tensors' names cannot be told apart", ", ".join(doubled) or RESERVED)
    if strange:
        _refuse("safetensors has no such type of number", ", ".join(strange))


def _require_fit(slot: Slot, tensor: Tensor) -> None:
    if tuple(tensor.shape) != slot.shape:
        _refuse(
            f"the tensor {slot.name} has another shape than was announced",
            f"{list(tensor.shape)}, announced {list(slot.shape)}",
        )
    rounded = tensor.is_floating_point() and slot.dtype.is_floating_point
    if tensor.dtype != slot.dtype and not rounded:
        _refuse(f"the tensor {slot.name} is {tensor.dtype}, which cannot become {slot.dtype}")


def _refuse(what: str, found: str = "") -> NoReturn:
    raise ModelError(f"cannot write the weights: {what}", found=found or None)
