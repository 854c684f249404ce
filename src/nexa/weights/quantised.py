"""The base that a QLoRA adapter was trained on: its linear layers through four bits and back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nexa.core.records import AdoptedBody, CheckpointBody
from nexa.lm.decoder.model import projections
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.folder import read_config
from nexa.lm.nf4 import Scales, dequantise, quantise
from nexa.lm.quantized import linear_layers
from nexa.weights.tensors import Weights


def trained_base(
    folder: Path, weights: Weights, checkpoint: CheckpointBody | AdoptedBody
) -> Weights:
    """The weights that an adapter was trained on, which are what it is merged into.

    They are the base's own, unless the record says that they were held in four bits.
    """
    if isinstance(checkpoint, AdoptedBody) or checkpoint.quantization is None:
        return weights
    dtype: torch.dtype = getattr(torch, checkpoint.precision)
    double = bool(checkpoint.double_quantization)
    return DequantisedWeights(weights, quantised_names(folder), dtype, double=double)


def quantised_names(folder: Path) -> frozenset[str]:
    """The weights that `lm.quantized` holds in four bits."""
    try:
        layers = projections(shape_of(read_config(folder)))
    except UnsupportedDecoder:
        layers = _asked_linear_layers(folder)
    return frozenset(f"{name}.weight" for name in layers)


def _asked_linear_layers(folder: Path) -> list[str]:
    """The layers' names of a model that the decoder does not know: it is built without memory."""
    # Only here: importing them takes longer than most models take to be merged.
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return list(linear_layers(model))


class DequantisedWeights:
    """Weights as a training saw them: those of `quantised` from NF4, to the last bit.

    `dtype` is what the training ran in: the weights were quantised from it, and given back in it.
    What was packed is kept, as it is asked for several times and takes a quarter of the memory.
    """

    def __init__(
        self, base: Weights, quantised: frozenset[str], dtype: torch.dtype, *, double: bool
    ) -> None:
        self.base, self.quantised, self.dtype, self.double = base, quantised, dtype, double
        self._packed: dict[str, tuple[Tensor, Scales]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""
        return self.base.names

    def shape(self, name: str) -> tuple[int, ...]:
        """One tensor's shape."""
        return self.base.shape(name)

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""
        if name not in self.quantised:
            return self.base.tensor(name)
        if name not in self._packed:
            weight = self.base.tensor(name).to(self.dtype)
            self._packed[name] = quantise(weight, double=self.double)
        return dequantise(*self._packed[name], self.dtype).float()
