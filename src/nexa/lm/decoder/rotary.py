"""Rotary position embedding: the angle of each pair of values at each position.

Source: Su et al. 2021, arXiv:2104.09864; `llama3` scaling as the Llama 3.1 reference code has it:
slow rotations are stretched by `factor`, fast ones left, those between blended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexa.core.errors import ModelError

KINDS = ("default", "linear", "llama3")


class UnsupportedDecoder(ModelError):
    """The fused decoder does not compute this architecture; the generic executor may."""


@dataclass(frozen=True)
class Rotary:
    """How fast each pair turns. `factor` stretches positions (linear) or slow pairs (llama3)."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_positions: int = 8192

    def frequencies(self, head_width: int) -> Tensor:
        """Radians a position of each of the `head_width / 2` pairs, float32."""
        exponents = torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width
        plain = 1.0 / (self.theta**exponents)
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "llama3":
            return self._blended(plain)
        return plain

    def _blended(self, plain: Tensor) -> Tensor:
        wavelength = 2 * math.pi / plain
        turns = self.original_positions / wavelength
        share = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return plain * share + plain / self.factor * (1 - share)


def rotary_of(config: Mapping[str, Any]) -> Rotary:
    """The rotation that a config.json tells, in the old spelling or the new one.

    Raises:
        UnsupportedDecoder: a rotation that is not computed here; names it.
    """
    # transformers before 5 wrote `rope_scaling` and `rope_theta`, since then `rope_parameters`.
    told = {**config, **(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = told.get("rope_type") or told.get("type") or "default"
    if kind not in KINDS:
        raise UnsupportedDecoder(
            f"the fused decoder does not compute the rotary scaling {kind!r}",
            found=f"it computes {', '.join(KINDS)}",
        )
    part = told.get("partial_rotary_factor") or 1.0
    if part != 1.0:
        raise UnsupportedDecoder(
            "the fused decoder turns whole heads", found=f"partial_rotary_factor: {part}"
        )
    positions = told.get("original_max_position_embeddings") or told.get("max_position_embeddings")
    return Rotary(
        theta=float(told.get("rope_theta") or 10_000.0),
        kind=kind,
        factor=float(told.get("factor") or 1.0),
        low=float(told.get("low_freq_factor") or 1.0),
        high=float(told.get("high_freq_factor") or 4.0),
        original_positions=int(positions or 8192),
    )
