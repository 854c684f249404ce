"""Adapters on a model: put on, run, taken off again."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop

from nexa.core.errors import ModelError
from nexa.lm.adapters.files import module_names, read, tensor_names
from nexa.lm.adapters.layers import Layer, frozen_weight, target_layers
from nexa.lm.adapters.products import DoraProduct, LoraProduct, row_norms
from nexa.lm.adapters.spec import LoraSpec

if TYPE_CHECKING:  # the fused path starts its adapters here, and imports no transformers
    from transformers import PreTrainedModel


@dataclass
class Adapter:
    """What one layer carries: A `[rank, in]`, B `[out, rank]` and, of DoRA, m `[out]`; float32."""

    layer: Layer
    a: nn.Parameter
    b: nn.Parameter
    scale: float
    magnitude: nn.Parameter | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A, B and the magnitude, in the order of `files.tensor_names`."""
        return [self.a, self.b, *([] if self.magnitude is None else [self.magnitude])]


@dataclass
class AttachedLora:
    """An adapter on a model: its parameters, and the way to take it off again."""

    model: PreTrainedModel
    spec: LoraSpec
    adapters: dict[str, Adapter]
    _were_trained: list[nn.Parameter] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A, B (and m) of every layer, in the model's own order."""
        return [p for adapter in self.adapters.values() for p in adapter.parameters]

    @property
    def names(self) -> list[str]:
        """The parameters' names in PEFT's files, in the same order."""
        return tensor_names(self.adapters, self.spec)

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters under PEFT's names, float32 on the CPU."""
        copies = (p.detach().to("cpu", torch.float32, copy=True) for p in self.parameters)
        return dict(zip(self.names, copies, strict=True))

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model, for the length of a block."""
        self._take_off()
        try:
            yield
        finally:
            self._put_on()

    def detach(self) -> None:
        """Leave the model exactly as it was before."""
        self._take_off()
        for parameter in self._were_trained:
            parameter.requires_grad_(True)
        self._were_trained.clear()

    def _put_on(self) -> None:
        for adapter in self.adapters.values():
            # nn.Module.__call__ looks `forward` up on the instance first.
            adapter.layer.__dict__["forward"] = _forward(adapter, self.spec.dropout)

    def _take_off(self) -> None:
        for adapter in self.adapters.values():
            adapter.layer.__dict__.pop("forward", None)


def attach(model: PreTrainedModel, spec: LoraSpec, seed: int) -> AttachedLora:
    """Put a fresh adapter on `model` and freeze the model itself.

    B is zero and a magnitude is its row's own length: the model answers as before.

    Raises:
        ModelError: no layer, or a layer that is already adapted; names the nearest module.
    """
    adapters = {}
    for name, layer in target_layers(model, spec.target_modules).items():
        a, b = start(spec, seed, name, layer.in_features, layer.out_features)
        adapters[name] = _adapter(layer, a, b, spec.scale_of(name), trained=True)
        if spec.dora:
            adapters[name].magnitude = _magnitude(adapters[name])
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    return _attached(model, spec, adapters, trained)


def start(
    spec: LoraSpec, seed: int, name: str, in_features: int, out_features: int
) -> tuple[Tensor, Tensor]:
    """A `[rank, in]` and B `[out, rank]` of a layer's fresh adapter, float32 on the CPU.

    A is drawn as PEFT draws it, kaiming-uniform with a = sqrt(5), which is uniform in
    +-1 / sqrt(in); each layer's from a generator of its own, by its name in the model, so that no
    layer's start depends on which others are there. B is zero.
    """
    generator = torch.Generator().manual_seed(_layer_seed(seed, name))
    bound, rank = 1 / math.sqrt(in_features), spec.rank_of(name)
    a = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
    return a, torch.zeros(out_features, rank)


def _layer_seed(seed: int, name: str) -> int:
    return int.from_bytes(
        hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big", signed=True
    )


def load(model: PreTrainedModel, folder: Path) -> AttachedLora:
    """Put the adapter of a PEFT folder on `model`, for inference.

    Raises:
        ModelError: the folder is no adapter that `files.read` reads, or not one of this model.
    """
    spec, tensors = read(folder)
    modules = dict(model.named_modules())
    adapters = {}
    for name in module_names(tensors):
        layer = modules.get(name)
        a, b, *magnitude = (tensors[key] for key in tensor_names([name], spec))
        shape = (len(b), a.shape[1])
        if not isinstance(layer, Layer) or (layer.out_features, layer.in_features) != shape:
            raise ModelError(
                f"the adapter in {folder} does not fit this model",
                found=f"it has {shape[0]} x {shape[1]} for {name}, the model has {layer}",
                fix="load it on the model that it was trained from",
            )
        adapters[name] = _adapter(layer, a, b, spec.scale_of(name), *magnitude, trained=False)
    return _attached(model, spec, adapters, [])


def _adapter(
    layer: Layer,
    a: Tensor,
    b: Tensor,
    scale: float,
    magnitude: Tensor | None = None,
    *,
    trained: bool,
) -> Adapter:
    module = cast(nn.Module, layer)
    device = next(itertools.chain(module.parameters(), module.buffers())).device

    def parameter(tensor: Tensor) -> nn.Parameter:
        return nn.Parameter(tensor.to(device, torch.float32), requires_grad=trained)

    own = None if magnitude is None else parameter(magnitude)
    return Adapter(layer, parameter(a), parameter(b), scale, own)


def _magnitude(adapter: Adapter) -> nn.Parameter:
    """The length of each row, where an adapter begins that changes none."""
    weight = frozen_weight(adapter.layer)
    return nn.Parameter(row_norms(weight, adapter.a, adapter.b, adapter.scale))


def _attached(
    model: PreTrainedModel, spec: LoraSpec, adapters: dict[str, Adapter], frozen: list[nn.Parameter]
) -> AttachedLora:
    taken = [name for name, adapter in adapters.items() if "forward" in adapter.layer.__dict__]
    if taken:
        raise ModelError("this model carries an adapter already", found=taken[0])
    lora = AttachedLora(model, spec, adapters, frozen)
    lora._put_on()
    return lora


def _forward(adapter: Adapter, dropout: float) -> Callable[[Tensor], Tensor]:
    """What the adapted layer computes."""
    layer = adapter.layer
    product = LoraProduct if adapter.magnitude is None else DoraProduct

    def forward(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        dropped = drop(flat, dropout) if dropout and layer.training else None
        out: Tensor = product.apply(  # type: ignore[no-untyped-call]
            flat, dropped, layer, layer.bias, *adapter.parameters, adapter.scale
        )
        return out.view(*x.shape[:-1], -1)

    return forward
