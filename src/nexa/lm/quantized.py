"""Linear layers that keep their weight in four bits, and are multiplied as if they did not.

A layer's dense weight is there for the length of one product, forward and again backward: what
stays in memory is `lm/nf4.py`'s bytes. Embeddings, norms and the output head stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from nexa.core.errors import ModelError
from nexa.lm.nf4 import Scales, dequantise, quantise

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quantize_linears(model: PreTrainedModel, *, double: bool = True) -> tuple[str, ...]:
    """Replace every linear layer but the output head by one of four bits, a layer at a time.

    With `double` the scales are quantised too. A model in bfloat16 is quantised from bfloat16.
    Returns the names of the layers.

    Raises:
        ModelError: the model has no such layer, or is quantised already.
    """
    layers = linear_layers(model)
    for name, layer in layers.items():
        quantize_layer(model, name, layer.weight.data, double=double)
    return tuple(layers)


def quantize_layer(model: PreTrainedModel, name: str, weight: Tensor, *, double: bool) -> None:
    """Put four bits in the place of a linear layer, made of `weight` in the layer's own type.

    What the layer held is let go.
    """
    layer = cast(nn.Linear, model.get_submodule(name))
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    model.set_submodule(name, FourBitLinear(layer, double=double))
    layer.weight.data = layer.weight.data.new_empty(0)


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The layers that quantising replaces, by name; the model may be on the meta device.

    Raises:
        ModelError: there is none.
    """
    head = model.get_output_embeddings()
    # Not of a class derived from it, which may use its weight in another way than this one.
    found = {n: m for n, m in model.named_modules() if type(m) is nn.Linear and m is not head}
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear layer that could be held in four bits",
            fix="training.method: lora",
        )
    return found


class FourBitLinear(nn.Module):
    """A frozen linear layer: `x W^T + bias`, with W in NF4 (`lm.nf4`).

    Buffers: `packed`, uint8 `[ceil(out * in / 2), 1]`; `blocks`, a scale for each 64 values, with
    double quantisation uint8 `[ceil(out * in / 64)]`; `nested` and `offset`, float32, then too.
    """

    packed: Tensor
    blocks: Tensor
    nested: Tensor | None
    offset: Tensor | None

    def __init__(self, layer: nn.Linear, *, double: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.dtype = layer.weight.dtype  # in which the weight was, and is given back
        self.bias = layer.bias
        packed, scales = quantise(layer.weight, double=double)
        for name, tensor in (
            ("packed", packed),
            ("blocks", scales.blocks),
            ("nested", scales.nested),
            ("offset", scales.offset),
        ):
            self.register_buffer(name, tensor)

    @property
    def scales(self) -> Scales:
        """What the packed weight is multiplied by."""
        shape = (self.out_features, self.in_features)
        return Scales(shape, self.blocks, self.nested, self.offset)

    def dense(self) -> Tensor:
        """The weight `[out, in]` as it is computed with: a new tensor each time."""
        return dequantise(self.packed, self.scales, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """`x W^T + bias`; what is kept for the backward pass is not W."""
        out: Tensor = _FrozenProduct.apply(x, self)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """As `nn.Linear` tells itself, with the form of the weight."""
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, {bias=}, nf4"


class _FrozenProduct(torch.autograd.Function):
    """A linear layer whose weight has no gradient, and is made anew where one passes through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.dense(), layer.bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ ctx.layer.dense(), None
