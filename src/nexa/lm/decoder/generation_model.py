"""A decoder that only answers: frozen weights, packed for the processor, no graph.

T tokens of a call, each of any row   N of them whose next token is asked for
D width   H query heads   K key heads   W head width   V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, silu

from nexa.lm.decoder.linear import AdaptedLinear
from nexa.lm.decoder.model import Block, Decoder

# `(layer, query [T, H, W], key [T, K, W], value [T, K, W]) -> [T, H * W]`
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]

# How many rows the weights are packed for; any number can be multiplied with them.
PACKED_FOR_ROWS = 64


class GenerationModel:
    """A Llama-like model on a CPU, without adapters.

    The residual stream and the norms are float32, all else has the weights' dtype.
    """

    def __init__(self, decoder: Decoder) -> None:
        """Take a decoder's weights away from it, a layer at a time: they are never there twice."""
        self.shape, self.dtype = decoder.shape, decoder.embedding.dtype
        self.embedding, self.norm = decoder.embedding, decoder.norm
        self.frequencies = decoder.frequencies
        with torch.no_grad():
            self.layers = [_Layer(block) for block in decoder.layers]
            # A tied head would be in memory twice if it were packed.
            self.head = Product(decoder.head, pack=not self.shape.tied)

    def hidden(
        self, ids_T: Tensor, positions_T: Tensor, attend: Attend, wanted_N: Tensor | None = None
    ) -> Tensor:
        """Normed hidden states `[N, D]` of the tokens at `wanted_N`; of all, if left out.

        `attend` is called once a layer and sees every token's query, key and value.
        """
        s = self.shape
        cos, sin = self._turns(positions_T)
        x = embedding(ids_T, self.embedding).float()
        update: Tensor | None = None
        for number, layer in enumerate(self.layers):
            heads = layer.qkv(self._add_norm(x, update, layer.attention_norm))
            heads = heads.view(len(ids_T), s.heads + 2 * s.key_heads, s.head_width)
            turned, value = heads.split([s.heads + s.key_heads, s.key_heads], 1)
            if layer.head_norms is not None:
                turned = self._normed(turned.float(), layer.head_norms)
            # Of each pair (x[i], x[i + W/2]): one times cos, the other times sin with its sign.
            turned = torch.mul(turned, cos).addcmul_(turned.roll(s.head_width // 2, -1), sin)
            query, key = turned.split([s.heads, s.key_heads], 1)
            attended = attend(number, query, key, value)
            if number == s.layers - 1 and wanted_N is not None:
                x, attended = x[wanted_N], attended[wanted_N]
            gate_up = layer.gate_up(self._add_norm(x, layer.out(attended), layer.mlp_norm))
            gate, up = gate_up.chunk(2, -1)
            update = layer.down(silu(gate).mul_(up))
        return self._add_norm(x, update, self.norm)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """`[N, V]`, in the weights' dtype."""
        return self.head(hidden_ND)

    def release(self) -> None:
        """Let go of the weights, whoever still holds this."""
        self.layers = []
        self.embedding = self.embedding.new_empty(0, self.shape.width)
        self.head = Product(self.embedding, pack=False)

    def _turns(self, positions_T: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines `[T, 1, W]` of each position's rotation."""
        angles = positions_T[:, None, None].float() * self.frequencies
        cos, sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)

    def _add_norm(self, x_TD: Tensor, update_TD: Tensor | None, weight: Tensor) -> Tensor:
        """Add the update to the residual stream, in place, and norm it."""
        if update_TD is not None:
            x_TD.add_(update_TD)
        return self._normed(x_TD, weight)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        inverse: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse.square_().mul_(1 / x.shape[-1]).add_(self.shape.norm_eps).rsqrt_()
        return (x * inverse).mul_(weight).to(self.dtype)


class _Layer:
    """One layer's products and norms."""

    def __init__(self, block: Block) -> None:
        self.qkv = _taken(block.qkv)
        self.out = _taken(block.out)
        self.gate_up = _taken(block.gate_up)
        self.down = _taken(block.down)
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.head_norms: Tensor | None = None  # [H + K, W], of each query and key head
        s = block.shape
        if s.head_norms:
            query, key = block.query_norm, block.key_norm
            self.head_norms = torch.cat([query.expand(s.heads, -1), key.expand(s.key_heads, -1)])


def _taken(linear: AdaptedLinear) -> Product:
    """The product of frozen weights; the layer it was has none left."""
    weight = linear.weight
    linear.weight = weight.new_empty(0, linear.width)
    return Product(weight, linear.bias)


class Product:
    """`x W^T + bias`, the weights in oneDNN's own order where torch can bring them into it.

    In any other order oneDNN packs them anew for every product, which takes its time when few
    rows are multiplied: 64 rows on two cores went 1.4 times as fast packed in bfloat16. In float32
    it was 2.3 times: there torch would ask MKL, which is the slower of the two.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, pack: bool = True) -> None:
        """Take a weight `[out, in]`; packed, nothing is kept of it as it was."""
        self.bias = bias
        self.packed = pack and can_pack(weight)
        self.weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR_ROWS)
            if self.packed
            else weight
        )

    def __call__(self, x_TD: Tensor) -> Tensor:
        """`[T, in]` -> `[T, out]`."""
        if not self.packed:
            return linear(x_TD, self.weight, self.bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x_TD, self.weight, self.bias, "none", [], ""
        )
        return out


def can_pack(weight: Tensor) -> bool:
    """Whether this torch has oneDNN's products for such a weight, and the processor its type."""
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32
