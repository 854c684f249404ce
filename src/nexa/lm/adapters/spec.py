"""What an adapter is.

Sources: LoRA, Hu et al. 2021, arXiv:2106.09685; rsLoRA, Kalajdzievski 2023, arXiv:2312.03732;
DoRA, Liu et al. 2024, arXiv:2402.09353; LoRA+, Hayou et al. 2024, arXiv:2402.12354.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from nexa.core.records import Variant

Targets = Literal["all-linear"] | str | tuple[str, ...]
_Value = TypeVar("_Value", int, float)


@dataclass(frozen=True)
class LoraSpec:
    """What an adapter is: its rank, its strength, its dropout and the layers that carry it."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0  # of the adapter's input, while training
    # all-linear: every linear layer but the output head; names or ends of names; or one text, a
    # regular expression that fits a layer's whole name.
    target_modules: Targets = "all-linear"
    rslora: bool = False  # scaled by alpha / sqrt(rank)
    dora: bool = False  # each row's magnitude is learned apart from its direction
    plus_ratio: float | None = None  # LoRA+: B's learning rate over A's
    # Layers of another rank or alpha: a regular expression that fits the end of a name -> value.
    rank_pattern: Mapping[str, int] = field(default_factory=dict, hash=False)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def scale(self) -> float:
        """What the product B A is multiplied by, in a layer that no pattern names."""
        return self._scale(self.rank, self.alpha)

    @property
    def variant(self) -> Variant | None:
        """What it is more than LoRA, as records say it."""
        if self.dora:
            return "dora+rslora" if self.rslora else "dora"
        return "rslora" if self.rslora else None

    def rank_of(self, layer: str) -> int:
        """The rank in the layer of this name."""
        return _by_pattern(self.rank_pattern, layer, self.rank)

    def alpha_of(self, layer: str) -> float:
        """The alpha in the layer of this name."""
        return _by_pattern(self.alpha_pattern, layer, self.alpha)

    def scale_of(self, layer: str) -> float:
        """What the product B A is multiplied by in the layer of this name."""
        return self._scale(self.rank_of(layer), self.alpha_of(layer))

    def numbers(self, layer: str, in_features: int, out_features: int) -> int:
        """How many numbers are trained in the layer of this name and size."""
        magnitudes = out_features if self.dora else 0
        return self.rank_of(layer) * (in_features + out_features) + magnitudes

    def _scale(self, rank: int, alpha: float) -> float:
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def _by_pattern(patterns: Mapping[str, _Value], layer: str, default: _Value) -> _Value:
    """The value of the first pattern that fits, as PEFT reads them."""
    fits = (v for p, v in patterns.items() if re.match(rf"(.*\.)?({p})$", layer))
    return next(fits, default)
