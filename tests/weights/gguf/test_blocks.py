from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf import dequantize, quantize

from nexa.weights.gguf import blocks


def encoded(values: np.ndarray, kind: Kind) -> np.ndarray:
    with ThreadPoolExecutor(3) as pool:
        pieces = list(blocks.encode(values, kind, name="t", pool=pool))
    return np.concatenate([piece.ravel() for piece in pieces])


@pytest.mark.parametrize(
    "kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1]
)
def test_pieces_in_turns_are_the_whole_at_once(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PIECE", 100)  # one row at a time
    values = np.random.default_rng(0).normal(size=(7, 64)).astype(np.float32)
    values[3] = 0
    found = encoded(values, kind)
    assert found.nbytes == blocks.size_bytes(values.shape, kind)
    np.testing.assert_array_equal(found, quantize(values, kind).view(np.uint8).ravel())


def test_f32_is_bit_for_bit_and_vectors_are_rows() -> None:
    values = np.array([1e-45, -0.0, 3e38, 1 / 3], np.float32)
    assert encoded(values, Kind.F32).tobytes() == values.tobytes()
    assert encoded(values, Kind.BF16).nbytes == 8


def test_rows_in_another_order_in_memory_are_the_same_rows() -> None:
    values = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32).T
    for kind in (Kind.F32, Kind.F16, Kind.Q8_0):
        np.testing.assert_array_equal(
            encoded(values, kind), encoded(np.ascontiguousarray(values), kind)
        )
    assert dequantize(encoded(values, Kind.F16), Kind.F16).shape == (256,)
