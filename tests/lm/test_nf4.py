"""Compared with bitsandbytes itself (nf4_oracle.json) and with the paper's words, number by number.

The oracle's weights are made here: an integer generator, so that they are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nexa.lm.nf4 import BLOCK, LEVELS, NESTED_BLOCK, dequantise, dynamic_map, quantise

ORACLE = json.loads((Path(__file__).parent / "nf4_oracle.json").read_bytes())
CPU = torch.device("cpu")


def oracle_weight(shape: list[int], dtype: str) -> Tensor:
    """Sums of four draws of a linear congruential generator: bell-shaped, exact in float32."""
    state, values = 1, []
    for _ in range(torch.Size(shape).numel()):
        total = 0
        for _ in range(4):
            state = (1103515245 * state + 12345) % 2**31
            total += state >> 16
        values.append((total - 65536) / 2**20)
    return torch.tensor(values).view(shape).to(getattr(torch, dtype))


def sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def case_id(case: dict[str, Any]) -> str:
    return f"{case['dtype']}-{'x'.join(map(str, case['shape']))}-{case['double']}"


@pytest.mark.parametrize("case", ORACLE["cases"], ids=case_id)
def test_bytes_scales_and_values_are_those_of_bitsandbytes(case: dict[str, Any]) -> None:
    weight = oracle_weight(case["shape"], case["dtype"])

    packed, scales = quantise(weight, double=case["double"])

    assert packed.flatten()[:16].tolist() == case["packed_starts"]
    assert sha256(packed) == case["packed_sha256"]
    assert scales.blocks.tolist() == case["blocks"]
    if case["double"]:
        assert scales.nested is not None
        assert scales.offset is not None
        assert scales.blocks.dtype is torch.uint8
        assert scales.nested.tolist() == case["nested"]
        assert scales.offset.item() == case["offset"]
    for dtype, digest in case["dequantised_sha256"].items():
        again = dequantise(packed, scales, getattr(torch, dtype))
        assert again.dtype is getattr(torch, dtype)
        assert sha256(again) == digest, dtype


def test_every_value_is_the_nearest_level_of_its_block() -> None:
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(1))

    packed, scales = quantise(weight, double=False)

    again = dequantise(packed, scales).flatten().view(-1, BLOCK)
    for block, found in zip(weight.flatten().view(-1, BLOCK), again, strict=True):
        largest = float(block.abs().max())
        for value, level in zip(block.tolist(), found.tolist(), strict=True):
            nearest = min((abs(x * largest - value), x * largest) for x in LEVELS)
            assert abs(level - value) <= nearest[0] + 1e-6


def test_double_quantisation_moves_a_scale_by_at_most_half_a_step_of_its_map() -> None:
    weight = torch.randn(300, BLOCK, generator=torch.Generator().manual_seed(2))
    _, single = quantise(weight, double=False)
    _, double = quantise(weight)

    exact, offset = single.magnitudes(), single.magnitudes().mean()
    steps = dynamic_map(CPU)
    assert double.nested is not None
    for i in range(300):
        unit = float((exact[i] - offset) / double.nested[i // NESTED_BLOCK])
        nearest = float(steps[(steps - unit).abs().argmin()])
        wanted = nearest * float(double.nested[i // NESTED_BLOCK]) + float(offset)
        assert float(double.magnitudes()[i]) == pytest.approx(wanted, rel=1e-5)


def test_the_map_of_eight_bits_has_finer_steps_near_zero() -> None:
    steps = dynamic_map(CPU)
    assert len(steps) == 256
    assert torch.equal(steps, steps.sort().values)
    assert steps.unique().numel() == 256
    assert (steps[0], steps[-1]) == (pytest.approx(-0.9929688), 1.0)
    assert 0.0 in steps
    for decade in range(7):
        low, high = 10.0 ** (decade - 7), 10.0 ** (decade - 6)
        inside = steps[(steps > low) & (steps < high)]
        assert len(inside) == 2**decade
        assert torch.allclose(inside, -steps[(steps < -low) & (steps > -high)].flip(0))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 64), (65,), (2, 3, 7)])
def test_any_shape_comes_back_as_it_was(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))

    packed, scales = quantise(weight)

    again = dequantise(packed, scales)
    assert again.shape == weight.shape
    assert packed.shape == ((weight.numel() + 1) // 2, 1)
    assert float((again - weight).abs().max()) <= 0.16 * float(weight.abs().max())


def test_a_weight_of_zeros_is_zeros_again() -> None:
    for double in (True, False):
        packed, scales = quantise(torch.zeros(4, 100), double=double)
        assert not dequantise(packed, scales).any()


def test_what_is_decoded_part_by_part_is_what_one_part_gives() -> None:
    # More values than are decoded at a time, and a last part that is not full.
    weight = torch.randn(1030, 256, generator=torch.Generator().manual_seed(4))

    packed, scales = quantise(weight)

    whole = dequantise(packed, scales)
    last = dequantise(*quantise(weight[1024:], double=False))
    assert float((whole[1024:] - last).abs().max()) < 0.02
    assert float((whole - weight).abs().mean()) < 0.1


def test_a_value_takes_four_bits_and_an_eighth() -> None:
    packed, scales = quantise(torch.randn(512, 512))
    assert scales.nested is not None
    assert scales.offset is not None
    tensors = (packed, scales.blocks, scales.nested, scales.offset)
    assert sum(t.nbytes for t in tensors) * 8 / 512**2 == pytest.approx(4.127, abs=2e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_packs_and_unpacks_the_same() -> None:  # pragma: no cover  # needs a GPU
    weight = torch.randn(96, 640, generator=torch.Generator().manual_seed(5))
    packed, scales = quantise(weight, double=False)
    there, theirs = quantise(weight.cuda(), double=False)
    assert torch.equal(there.cpu(), packed)
    assert torch.equal(dequantise(there, theirs).cpu(), dequantise(packed, scales))
