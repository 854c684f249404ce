from __future__ import annotations

import _ctypes
import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, dequantize, quantize
from gguf import GGMLQuantizationType as Kind

from nexa.core.errors import MissingExtra
from nexa.weights.gguf import k_quants

# Root mean square of the error of normal values of size 1, seen once and given a fifth of room.
ERRORS = {
    Kind.Q2_K: 0.36,
    Kind.Q3_K: 0.18,
    Kind.Q4_K: 0.086,
    Kind.Q5_K: 0.044,
    Kind.Q6_K: 0.022,
}


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)


@pytest.mark.parametrize("kind", ERRORS)
def test_what_ggml_writes_the_gguf_package_reads(kind: Kind, values: np.ndarray) -> None:
    pytest.importorskip("xllamacpp")
    found = k_quants.quantize(values, kind)
    block, size = GGML_QUANT_SIZES[kind]
    assert found.shape == (64, 512 // block * size)
    error = np.sqrt(np.mean((dequantize(found, kind) - values) ** 2))
    assert ERRORS[kind] / 1.5 < error < ERRORS[kind]


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1])
def test_the_plain_types_are_ggmls_own_bytes(kind: Kind, values: np.ndarray) -> None:
    pytest.importorskip("xllamacpp")
    np.testing.assert_array_equal(quantize(values, kind), k_quants.quantize(values, kind))


def test_threads_and_pieces_change_nothing(values: np.ndarray) -> None:
    pytest.importorskip("xllamacpp")
    whole = k_quants.quantize(values, Kind.Q4_K)
    with ThreadPoolExecutor(4) as pool:
        pieces = pool.map(lambda row: k_quants.quantize(row, Kind.Q4_K), np.array_split(values, 16))
        np.testing.assert_array_equal(np.concatenate(list(pieces)), whole)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, in which the extra's has another name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(k_quants, "MODULE", "no_llama")
    monkeypatch.delitem(sys.modules, "no_llama", raising=False)
    k_quants.function.cache_clear()
    yield tmp_path
    k_quants.function.cache_clear()
    sys.modules.pop("no_llama", None)


def test_without_the_package_the_install_line_is_told(packages: Path) -> None:
    with pytest.raises(MissingExtra, match=r'pip install "nexa-compute\[gguf\]"'):
        k_quants.function()


def test_a_release_without_the_function_is_told(packages: Path) -> None:
    folder = packages / "no_llama"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    with pytest.raises(MissingExtra, match="no package no_llama"):
        k_quants.function()
    said = "a release of no_llama that exports ggml_quantize_chunk"
    (folder / "no_llama.py").write_text("")  # no library at all
    importlib.invalidate_caches()
    with pytest.raises(MissingExtra, match=said):
        k_quants.function()
    (folder / "no_llama.py").unlink()
    library = folder / f"no_llama{Path(_ctypes.__file__).suffix}"
    library.write_bytes(Path(_ctypes.__file__).read_bytes())  # one of another kind
    importlib.invalidate_caches()
    with pytest.raises(MissingExtra, match=rf"{said}(.|\n)*undefined symbol"):
        k_quants.function()
