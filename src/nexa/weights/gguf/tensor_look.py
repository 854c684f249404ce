"""A GGUF file's tensors against the model folder's, each read, dequantised and compared once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, dequantize
from torch import Tensor

from nexa.lm.decoder.model import HEAD
from nexa.lm.gguf_file import GgufFile, Held
from nexa.lm.gguf_names import (
    halves_to_pairs,
    pairs_to_halves,
    rotated_heads,
    to_gguf,
    to_transformers,
)
from nexa.lm.gguf_rope import TENSOR as ROPE
from nexa.weights.checks import Check
from nexa.weights.gguf import blocks, limits
from nexa.weights.gguf.write import BUFFERS, Written
from nexa.weights.tensors import StoredWeights

Kind = GGMLQuantizationType
PLAIN = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
TOLD = 3  # names in a failed check


@dataclass(frozen=True)
class RowOrder:
    """What tells which tensors llama.cpp keeps in an order of rows of its own."""

    model_type: str
    heads: int
    key_heads: int

    def heads_of(self, name: str) -> int | None:
        """The heads whose rows stand in pair order in this tensor; None when none do."""
        return rotated_heads(name, self.model_type, heads=self.heads, key_heads=self.key_heads)


class TensorLook:
    """Hands tensors on to who computes with them, and tells what was seen on the way.

    `written` is what this project's writer told; None for a file of another tool.
    """

    def __init__(
        self,
        file: GgufFile,
        weights: StoredWeights,
        order: RowOrder,
        *,
        tied: bool,
        written: Written | None,
    ) -> None:
        self.file, self.weights, self.order, self.written = file, weights, order, written
        own = (n for n in weights.names if not n.endswith(BUFFERS) and not (tied and n == HEAD))
        # By GGUF's name; what GGUF has no name for keeps its own.
        self.sources = {to_gguf(name) or name: name for name in own}
        self._pool = ThreadPoolExecutor(os.cpu_count())  # its threads begin where they are needed
        self._seen: set[str] = set()
        self._wrong: list[str] = []
        self._errors: dict[Kind, float] = {}

    @staticmethod
    def shapes_of(file: GgufFile) -> dict[str, tuple[int, ...]]:
        """The shapes of a file's tensors, by transformers' names."""
        named = ((to_transformers(name), held.shape) for name, held in file.tensors.items())
        return {name: shape for name, shape in named if name is not None}

    def read(self, name: str) -> tuple[Tensor, Tensor]:
        """One weight by transformers' name, in float32: of the source, of the file.

        Empty on the side that does not have it.
        """
        theirs = to_gguf(name) or name
        has_source, has_file = name in self.weights.names, theirs in self.file.tensors
        source = self.weights.tensor(name) if has_source else torch.empty(0)
        if not has_file:
            return source, torch.empty(0)
        held, raw = self.file.tensors[theirs], self.file.read(theirs)
        values = self._values(name, held, raw)
        if theirs in self.sources and theirs not in self._seen:
            self._seen.add(theirs)
            self._compare(theirs, held, raw, source, values)
        return source, values

    def checks(self) -> Iterator[Check]:
        """Names, types, values."""
        strangers = sorted((set(self.file.tensors) - {ROPE}) ^ set(self.sources))
        yield Check("tensor_names", not strangers, strangers[:TOLD] or "equal", "equal")
        for theirs in sorted(set(self.sources) & set(self.file.tensors) - self._seen):
            self.read(self.sources[theirs])
        if self.written is not None:
            yield self._types(self.written)
            wrong = sorted(self._wrong)
            exact = "equal to quantising the source once"
            yield Check("tensors_exact", not wrong, wrong[:TOLD] or "equal", exact)
        bounds = {kind: limits.error_of(kind) for kind in self._errors}
        beyond = [kind for kind, error in self._errors.items() if not error <= bounds[kind]]
        yield Check(
            "tensors_within_bounds",
            not beyond,
            {kind.name: _number(error) for kind, error in sorted(self._errors.items())},
            {kind.name: bound for kind, bound in sorted(bounds.items())},
        )

    def _types(self, written: Written) -> Check:
        found = {name: held.kind.name for name, held in self.file.tensors.items()}
        wrong = sorted(name for name in found if written.types.get(name) != found[name])
        told = {name: found[name] for name in wrong[:TOLD]}
        return Check("tensor_types", not wrong, told or "equal", "as they were written")

    def _values(self, name: str, held: Held, raw: npt.NDArray[np.uint8]) -> Tensor:
        """Float32, in transformers' order of rows."""
        if held.kind in PLAIN:
            values = torch.from_numpy(raw).view(PLAIN[held.kind]).float().view(held.shape)
        else:
            values = torch.from_numpy(dequantize(raw, held.kind)).view(held.shape)
        heads = self.order.heads_of(name)
        if heads is None or held.shape[0] % (2 * heads):
            return values
        return torch.from_numpy(pairs_to_halves(values.numpy(), heads))

    def _compare(
        self,
        theirs: str,
        held: Held,
        raw: npt.NDArray[np.uint8],
        source: Tensor,
        values: Tensor,
    ) -> None:
        if source.shape != values.shape:
            self._wrong.append(theirs)
            self._errors[held.kind] = math.inf
            return
        exact = self.written is not None and self._is_requantised(theirs, held, raw, source)
        if not exact:
            self._wrong.append(theirs)
        if exact and held.kind in PLAIN:  # rounded once, as it should be: nothing to measure
            return
        error, before = _relative(values, source), self._errors.get(held.kind, 0.0)
        self._errors[held.kind] = error if not error <= before else before

    def _is_requantised(
        self, theirs: str, held: Held, raw: npt.NDArray[np.uint8], source: Tensor
    ) -> bool:
        """Whether the file has the very bytes that quantising the source again gives."""
        if self.written is None or self.written.types.get(theirs) != held.kind.name:
            return False
        values = source.numpy()
        heads = self.order.heads_of(theirs)
        rows = values if heads is None else halves_to_pairs(values, heads)
        stored, at = raw.reshape(-1), 0
        for piece in blocks.encode(rows, held.kind, name=theirs, pool=self._pool):
            again = piece.reshape(-1)
            if not np.array_equal(stored[at : at + len(again)], again):
                return False
            at += len(again)
        return at == len(stored)


def _relative(values: Tensor, source: Tensor) -> float:
    """`|values - source| / |source|`."""
    size = float(torch.linalg.vector_norm(source))
    off = float(torch.linalg.vector_norm(values - source))
    return off / size if size else (0.0 if off == 0 else math.inf)


def _number(value: float) -> Any:
    """A number that JSON has, or what it is instead."""
    return value if math.isfinite(value) else "not a number"
