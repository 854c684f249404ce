"""Which executor runs a training, and what of the model is trained by it.

The one place that knows all executors: the rest of the layer sees the seam of `train.executor`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from nexa.core.errors import ConfigError
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.lm.load import load, release_models
from nexa.train import guards
from nexa.train.batches import TokenRow
from nexa.train.compiling import can_compile, compile_pays
from nexa.train.executor import Executor, Trained
from nexa.train.fused import FusedExecutor, fault, fused
from nexa.train.generic import generic
from nexa.train.quantized import quantised_base
from nexa.train.spec import TrainSpec


@contextlib.contextmanager
def engine(spec: TrainSpec, rows: Sequence[TokenRow], precision: str) -> Iterator[Executor]:
    """The executor of a run, with what is trained on its model; the model is left as it was.

    `auto` takes the fused engine wherever it computes what is asked for: `Way.engine_reason` says
    which one was taken and why. The fused engine has weights of its own: models that the process
    holds are let go before it reads them. `precision` is what products are computed in.

    Raises:
        ConfigError: the fused engine is asked for, and does not compute this; says what.
        ModelError: the model cannot be loaded.
        NothingTrained: no parameter could move.
        VocabularyError: a row holds a token that the model does not have.
        WeightsError: the model's weights hold NaN or an infinity.
    """
    against = fault(spec)
    if spec.engine == "fused" and against is not None:
        raise ConfigError(
            "the fused engine cannot run this training",
            found=against,
            fix="training.engine: auto, or generic",
        )
    if against is not None or spec.engine == "generic" or spec.adapter is None:
        reason = "asked for" if spec.engine == "generic" else f"not fused: {against}"
        with _generic(spec, rows, precision, reason) as executor:
            yield executor
    else:
        yield _fused(spec, spec.adapter, rows, precision)


def _fused(
    spec: TrainSpec, adapter: LoraSpec, rows: Sequence[TokenRow], precision: str
) -> FusedExecutor:
    """The fused executor, its weights read and found to be numbers."""
    release_models()
    compiled = compile_pays(spec, rows, precision, spec.model.config) and can_compile()
    reason = "asked for" if spec.engine == "fused" else "it computes this model and method"
    executor = fused(spec, adapter, rows, precision, compiled=compiled, reason=reason)
    guards.check_weights(executor.decoder.places())
    guards.check_trainable(executor.adapters())
    guards.check_vocabulary(rows, len(executor.decoder.embedding))
    return executor


@contextlib.contextmanager
def _generic(
    spec: TrainSpec, rows: Sequence[TokenRow], precision: str, reason: str
) -> Iterator[Executor]:
    """The generic executor, its weights read and found to be numbers."""
    # All weights are trained as float32 masters; bfloat16 is what they are multiplied in.
    autocast = spec.method == "full" and precision == "bfloat16"
    with _trained(spec, "float32" if spec.method == "full" else precision) as (model, trained):
        guards.check_trainable(trained.parameters)
        guards.check_vocabulary(rows, len(cast(Tensor, model.get_input_embeddings().weight)))
        with generic(model, trained, rows, autocast=autocast, reason=reason) as executor:
            yield executor


@contextlib.contextmanager
def _trained(spec: TrainSpec, dtype: str) -> Iterator[tuple[PreTrainedModel, Trained]]:
    """The loaded model and what of it is trained; afterwards it is the base again."""
    if spec.adapter is not None:
        with _frozen(spec, dtype) as model:
            lora = adapters.attach(model, spec.adapter, spec.seed)
            try:
                yield model, lora
            finally:
                lora.detach()
    else:
        model = load(spec.model, dtype=dtype).model
        guards.check_weights(model.state_dict().items())
        try:
            yield model, AllWeights(model)
        finally:
            model.zero_grad(set_to_none=True)
            load(spec.model, dtype=dtype)  # reads the base's weights back into the module


@contextlib.contextmanager
def _frozen(spec: TrainSpec, dtype: str) -> Iterator[PreTrainedModel]:
    """The base of an adapter, in its own dtype or in four bits."""
    if spec.quantize is not None:
        with quantised_base(spec, dtype) as model:
            yield model
    else:
        model = load(spec.model, dtype=dtype).model
        guards.check_weights(model.state_dict().items())
        yield model


@dataclass(frozen=True)
class AllWeights:
    """Every parameter of a float32 model."""

    model: PreTrainedModel

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Each one once, tied or not."""
        return list(self.model.parameters())

    @property
    def names(self) -> list[str]:
        """The parameters' names in the model, in the same order."""
        return [name for name, _ in self.model.named_parameters()]

    def state(self) -> dict[str, Tensor]:
        """A copy of the model's tensors by name; of tied ones, the first name's."""
        seen: set[int] = set()
        kept = {}
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[name] = tensor.detach().to("cpu", copy=True).contiguous()
        return kept
