"""Float32 rows -> the bytes of a GGUF tensor, in pieces that threads take turns with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from nexa.core.errors import ModelError, WeightsError
from nexa.weights.gguf import k_quants
from nexa.weights.gguf.mixes import FALLBACKS

Kind = GGMLQuantizationType
PIECE = 1 << 20  # values: 4 MB in, large enough that the turns cost nothing
F16_MAX = float(np.finfo(np.float16).max)
# Types that numbers are only rounded to. Torch does so, in threads of its own: pieces in several of
# ours would start as many again for each of them, which takes longer than the rounding.
ROUNDED = {Kind.F32, Kind.F16, Kind.BF16}
# Types that keep float32's range. All others keep values or scales as F16.
WIDE = {Kind.F32, Kind.BF16}


def size_bytes(shape: tuple[int, ...], kind: Kind) -> int:
    """What a tensor of this type takes in the file, without padding."""
    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def encode(
    values: npt.NDArray[np.float32], kind: Kind, *, name: str, pool: Executor
) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes of a tensor `[..., row]`, piece by piece and in order.

    Raises:
        WeightsError: some values are not numbers.
        ModelError: a value is beyond the range of the type.
        MissingExtra: a K-quant without the extra `gguf`.
    """
    rows = values.reshape(-1, values.shape[-1])
    step = max(1, PIECE // rows.shape[1])
    pieces = [rows[at : at + step] for at in range(0, len(rows), step)]
    each = map if kind in ROUNDED else pool.map
    return each(lambda piece: _encode(piece, kind, name), pieces)


def _encode(rows: npt.NDArray[np.float32], kind: Kind, name: str) -> npt.NDArray[np.uint8]:
    _require_numbers(rows, kind, name)
    if kind == Kind.F32:
        return np.ascontiguousarray(rows).view(np.uint8)
    if kind in (Kind.F16, Kind.BF16):
        dtype = torch.float16 if kind == Kind.F16 else torch.bfloat16
        rounded = torch.from_numpy(np.ascontiguousarray(rows)).to(dtype)
        return rounded.view(torch.uint8).numpy()
    if kind in FALLBACKS:
        return k_quants.quantize(rows, kind)
    blocks: npt.NDArray[np.uint8] = quants.quantize(np.ascontiguousarray(rows), kind)
    return blocks


def _require_numbers(rows: npt.NDArray[np.float32], kind: Kind, name: str) -> None:
    low, high = float(rows.min()), float(rows.max())  # NaN where there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise WeightsError(f"{name} holds values that are not numbers")
    largest = max(high, -low)
    if kind not in WIDE and largest > F16_MAX:
        raise ModelError(
            f"{name} holds values that {kind.name} does not",
            found=f"up to {largest:g}; F16 ends at {F16_MAX:g}",
            fix="--quantization bf16 or f32, which keep the range of float32",
        )
