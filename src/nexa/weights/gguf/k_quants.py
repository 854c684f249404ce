"""K-quants: computed by ggml itself, out of the shared object that xllamacpp brings.

The gguf package only reads them. xllamacpp exports ggml's own function without saying so: where a
release no longer does, that is told, and nothing is guessed. The call lets other threads run.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from nexa.core.errors import MissingExtra

MODULE = "xllamacpp"
SYMBOL = "ggml_quantize_chunk"
FIX = 'pip install "nexa-compute[gguf]", or choose f16, q8_0, q5_0 or q4_0, which need no extra'


def quantize(rows: npt.NDArray[np.float32], kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """Rows `[n, width]` as blocks, `[n, bytes]`; `width` is a whole number of blocks of 256.

    Raises:
        MissingExtra: xllamacpp is not installed, or has no such function.
    """
    block, size = GGML_QUANT_SIZES[kind]
    count, width = rows.shape
    blocks = np.empty((count, width // block * size), np.uint8)
    source = np.ascontiguousarray(rows, np.float32)
    # No importance matrix: the last argument is empty.
    function()(int(kind), source.ctypes.data, blocks.ctypes.data, 0, count, width, None)
    return blocks


@functools.cache
def function() -> Any:
    """The quantiser of ggml.

    Raises:
        MissingExtra: xllamacpp is not installed, or its shared object does not export it.
    """
    try:
        spec = importlib.util.find_spec(f"{MODULE}.{MODULE}")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise MissingExtra("K-quants need the extra gguf", found=f"no package {MODULE}", fix=FIX)
    try:
        found = getattr(ctypes.CDLL(spec.origin), SYMBOL)
    except (OSError, AttributeError) as error:
        raise MissingExtra(
            f"K-quants need a release of {MODULE} that exports {SYMBOL}", found=str(error), fix=FIX
        ) from error
    found.restype = ctypes.c_size_t
    found.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    return found
