"""NF4: a frozen weight in four bits a value, and back.

A weight is cut into blocks of 64 values; each block is divided by its largest magnitude, and each
value becomes the nearest of 16 levels that are quantiles of a normal distribution. With double
quantisation the blocks' magnitudes are themselves held in 8 bits: less their mean, in blocks of
256, on a map whose steps grow with the number. That is 4.127 bits a value instead of 4.5.

Bytes and numbers are those of bitsandbytes, whose files other tools read (`lm/quantized.py`), but
for scales that its compiled CPU library puts a step beside the nearest one of the map.

Source: Dettmers et al. 2023, arXiv:2305.14314; the 8-bit map: Dettmers 2015, arXiv:1511.04561.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK, NESTED_BLOCK = 64, 256
# Eight quantiles on each side of an exact zero, scaled to [-1, 1] (section 3 of the paper), rounded
# to float32.
LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
EXPONENTS = 7  # decades of the 8-bit map, from 1e-6 to 1
SMALLEST = 1e-38  # a block of zeros is divided by this
# Values decoded at a time: their float32 intermediates stay in a core's cache.
CHUNK_VALUES = 1 << 18


@dataclass(frozen=True)
class Scales:
    """What a packed weight is multiplied by, and the form it is given back in.

    `blocks` has one number for each block of 64 values: float32 magnitudes, or, with double
    quantisation, uint8 places in the 8-bit map, where `nested` has the magnitude of each 256 of
    them and `offset` (one number) their mean, both float32.
    """

    shape: tuple[int, ...]
    blocks: Tensor
    nested: Tensor | None = None
    offset: Tensor | None = None

    def magnitudes(self) -> Tensor:
        """The float32 magnitude of each block."""
        if self.nested is None or self.offset is None:
            return self.blocks
        return _nested_values(self.blocks, self.nested).add_(self.offset)


def quantise(weight: Tensor, *, double: bool = True) -> tuple[Tensor, Scales]:
    """Pack a weight of any shape into `[ceil(values / 2), 1]` bytes, the first value high.

    A last block that is not full is a block like any other.
    """
    values = weight.detach().reshape(-1).float()
    magnitudes, units = _blocks_of(values, BLOCK)
    places = torch.zeros(len(units), dtype=torch.uint8, device=weight.device)
    for middle in _middles(torch.tensor(LEVELS)).tolist():  # three times as fast as bucketize
        places += units > middle
    if len(places) % 2:  # as bitsandbytes fills up: with the level zero
        places = torch.nn.functional.pad(places, (0, 1), value=LEVELS.index(0.0))
    packed = (places[::2] << 4 | places[1::2]).unsqueeze(1)
    if not double:
        return packed, Scales(tuple(weight.shape), magnitudes)
    offset = magnitudes.mean()
    blocks, nested = _nested(magnitudes - offset)
    return packed, Scales(tuple(weight.shape), blocks, nested, offset)


def dequantise(packed: Tensor, scales: Scales, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight again, its values rounded once from float32 to `dtype`."""
    count = functools.reduce(int.__mul__, scales.shape, 1)
    pairs, magnitudes = packed.reshape(-1), scales.magnitudes()
    out = torch.empty(count + count % 2, dtype=dtype, device=packed.device)
    for start in range(0, len(out), CHUNK_VALUES):
        part = out[start : start + CHUNK_VALUES]
        levels = _levels(pairs[start // 2 : (start + len(part)) // 2])
        _scale(levels, magnitudes[start // BLOCK :], out=part)
    return out[:count].view(scales.shape)


def _levels(pairs: Tensor) -> Tensor:
    """The two levels of each byte, one after the other, float32.

    A pair is looked up as one 64-bit number: four times as fast on a CPU as two float32.
    """
    return _pair_table(pairs.device).index_select(0, pairs.int()).view(torch.float32)


def _scale(levels: Tensor, magnitudes: Tensor, *, out: Tensor) -> None:
    """Multiply each block by its magnitude, into `out`."""
    blocks = len(levels) // BLOCK
    whole = blocks * BLOCK
    each = magnitudes[:blocks, None]
    torch.mul(levels[:whole].view(-1, BLOCK), each, out=out[:whole].view(-1, BLOCK))
    if whole < len(levels):
        torch.mul(levels[whole:], magnitudes[blocks], out=out[whole:])


def _middles(ascending: Tensor) -> Tensor:
    """Where the nearest of some numbers changes."""
    return (ascending[:-1] + ascending[1:]) / 2


def _blocks_of(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The largest magnitude of each block, and all values divided by their block's.

    Multiplied by the reciprocal, and divided in a last block that is not full, as bitsandbytes
    does it: the two round differently.
    """
    count = -(-len(values) // size)
    missing = count * size - len(values)
    padded = torch.nn.functional.pad(values, (0, missing)).view(count, size)
    largest = padded.abs().amax(1)
    safe = largest.clamp_min(SMALLEST)[:, None]
    units = padded * (1 / safe)
    if missing:
        units[-1] = padded[-1] / safe[-1]
    return largest, units.clamp_(-1, 1).view(-1)[: len(values)]


def _nested(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values in 8 bits: places in the map, and the magnitude of each block of 256."""
    largest, units = _blocks_of(values, NESTED_BLOCK)
    steps = dynamic_map(values.device)
    return torch.bucketize(units, _middles(steps)).to(torch.uint8), largest


def _nested_values(places: Tensor, largest: Tensor) -> Tensor:
    each = largest.repeat_interleave(NESTED_BLOCK)[: len(places)]
    return dynamic_map(places.device)[places.int()].mul_(each)


@functools.cache
def dynamic_map(device: torch.device) -> Tensor:
    """The 256 numbers of the 8-bit map, ascending: 2^k even steps in decade k, both signs, 0, 1."""
    found = [0.0, 1.0]
    for exponent in range(EXPONENTS):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        decade = 10.0 ** (exponent - EXPONENTS + 1)
        found += (decade * middles).tolist() + (-decade * middles).tolist()
    return torch.tensor(sorted(found), device=device)


@functools.cache
def _pair_table(device: torch.device) -> Tensor:
    """The two float32 levels of each byte, as the 64 bits they are: int64 `[256]`."""
    levels = torch.tensor(LEVELS, device=device)
    byte = torch.arange(256, device=device)
    return torch.stack([levels[byte >> 4], levels[byte & 15]], 1).view(torch.int64).view(-1)
