"""The frozen base of a QLoRA training: the process's model in four bits, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transformers import PreTrainedModel

from nexa.core.errors import ConfigError
from nexa.lm.load import load
from nexa.lm.quantized import quantize_linears, restore_linears
from nexa.train import guards
from nexa.train.spec import TrainSpec


@contextlib.contextmanager
def quantised_base(spec: TrainSpec, precision: str) -> Iterator[PreTrainedModel]:
    """The base with its linear layers in NF4; afterwards the loaded model is the base again.

    It is loaded in `precision` and quantised from that, layer by layer in place, so the whole model
    is in memory once, at the beginning. What is multiplied is `precision` too.

    Raises:
        ConfigError: the spec asks for no quantisation.
        ModelError: the model cannot be loaded, or has no linear layers.
        WeightsError: its weights hold NaN or an infinity, which no four bits could tell.
    """
    if spec.quantize is None:
        raise ConfigError("this training asks for no quantised base", fix="method: qlora")
    model = load(spec.model, dtype=precision).model
    guards.check_weights(model.state_dict().items())
    replaced = quantize_linears(model, double=spec.quantize.double)
    try:
        yield model
    finally:
        restore_linears(model, replaced)
        load(spec.model, dtype=precision)  # reads the base's weights back into the module
