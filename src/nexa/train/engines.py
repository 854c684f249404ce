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

from nexa.lm import adapters
from nexa.lm.load import load
from nexa.train import guards
from nexa.train.batches import TokenRow
from nexa.train.executor import GenericExecutor, Trained, generic
from nexa.train.spec import TrainSpec


@contextlib.contextmanager
def engine(spec: TrainSpec, rows: Sequence[TokenRow], precision: str) -> Iterator[GenericExecutor]:
    """The executor of a run, with what is trained on its model; the model is left as it was.

    `precision` is what products are computed in.

    Raises:
        ModelError: the model cannot be loaded.
        NothingTrained: no parameter could move.
        VocabularyError: a row holds a token that the model does not have.
        WeightsError: the model's weights hold NaN or an infinity.
    """
    # All weights are trained as float32 masters; bfloat16 is what they are multiplied in.
    autocast = spec.method == "full" and precision == "bfloat16"
    with _trained(spec, "float32" if spec.method == "full" else precision) as (model, trained):
        guards.check_trainable(trained.parameters)
        guards.check_vocabulary(rows, len(cast(Tensor, model.get_input_embeddings().weight)))
        with generic(model, trained, rows, autocast=autocast) as executor:
            yield executor


@contextlib.contextmanager
def _trained(spec: TrainSpec, dtype: str) -> Iterator[tuple[PreTrainedModel, Trained]]:
    """The loaded model and what of it is trained; afterwards it is the base again."""
    model = load(spec.model, dtype=dtype).model
    guards.check_weights(model.state_dict().items())
    if spec.adapter is not None:
        lora = adapters.attach(model, spec.adapter, spec.seed)
        try:
            yield model, lora
        finally:
            lora.detach()
    else:
        try:
            yield model, AllWeights(model)
        finally:
            model.zero_grad(set_to_none=True)
            load(spec.model, dtype=dtype)  # reads the base's weights back into the module


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
