"""The frozen base of a QLoRA training: the model in four bits, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transformers import PreTrainedModel

from nexa.core.errors import ConfigError
from nexa.lm.load import load_quantized, release_models, stored_tensors
from nexa.train import guards
from nexa.train.spec import TrainSpec


@contextlib.contextmanager
def quantised_base(spec: TrainSpec, precision: str) -> Iterator[PreTrainedModel]:
    """The base with its linear layers in NF4, read into memory a layer at a time.

    It is quantised from `precision`, which is what is multiplied too. Models that the process
    holds are let go first.

    Raises:
        ConfigError: the spec asks for no quantisation.
        ModelError: the model cannot be loaded, or has no linear layers.
        WeightsError: its weights hold NaN or an infinity, which no four bits could tell.
    """
    if spec.quantize is None:
        raise ConfigError("this training asks for no quantised base", fix="method: qlora")
    release_models()
    guards.check_weights(stored_tensors(spec.model))
    yield load_quantized(spec.model, dtype=precision, double=spec.quantize.double)
