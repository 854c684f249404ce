"""The fused decoder: a Llama-like model as few large products, for training an adapter on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nexa.lm.decoder.kernels import add_norm, rotate, swiglu
from nexa.lm.decoder.linear import AdaptedLinear
from nexa.lm.decoder.shape import DecoderShape
from nexa.lm.documents import Documents, documents_attention

# The projections of a layer by the product that computes them, in its rows' order.
PRODUCTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True)
class Laid:
    """A flat batch: whole documents end to end, a prefix that all share computed once."""

    input_ids: Tensor  # [T]
    position_ids: Tensor  # [T], from 0 in each document
    documents: Documents


class Block(nn.Module):
    """One layer. In and out: the residual stream before the last update, and that update."""

    def __init__(self, shape: DecoderShape, layer: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shape = shape
        prefix = f"model.layers.{layer}."
        for name, parts in PRODUCTS.items():
            weights = [tensors[f"{prefix}{part}.weight"] for part in parts]
            biases = [tensors.get(f"{prefix}{part}.bias") for part in parts]
            bias = (
                torch.cat([b for b in biases if b is not None]) if biases[0] is not None else None
            )
            setattr(self, name, AdaptedLinear(weights, bias))
        self.qkv: AdaptedLinear
        self.out: AdaptedLinear
        self.gate_up: AdaptedLinear
        self.down: AdaptedLinear
        self._keep("attention_norm", tensors[f"{prefix}input_layernorm.weight"])
        self._keep("mlp_norm", tensors[f"{prefix}post_attention_layernorm.weight"])
        if shape.head_norms:
            self._keep("query_norm", tensors[f"{prefix}self_attn.q_norm.weight"])
            self._keep("key_norm", tensors[f"{prefix}self_attn.k_norm.weight"])
        self.attention_norm: Tensor
        self.mlp_norm: Tensor
        self.query_norm: Tensor
        self.key_norm: Tensor

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    def forward(
        self, x_TD: Tensor, update_TD: Tensor | None, cos: Tensor, sin: Tensor, laid: Laid
    ) -> tuple[Tensor, Tensor]:
        """Attention, then the MLP; the last update is left to the next norm to add."""
        eps = self.shape.norm_eps
        x_TD, normed = add_norm(x_TD, update_TD, self.attention_norm, eps)
        attended = self.out(self._attend(self.qkv(normed), cos, sin, laid))
        x_TD, normed = add_norm(x_TD, attended, self.mlp_norm, eps)
        return x_TD, self.down(swiglu(self.gate_up(normed)))

    def _attend(self, qkv: Tensor, cos: Tensor, sin: Tensor, laid: Laid) -> Tensor:
        s = self.shape
        heads = qkv.view(len(qkv), s.heads + 2 * s.key_heads, s.head_width)
        turned, value = heads.split([s.heads + s.key_heads, s.key_heads], 1)
        if s.head_norms:
            query, key = turned.split([s.heads, s.key_heads], 1)
            turned = torch.cat(
                [self._head_norm(query, self.query_norm), self._head_norm(key, self.key_norm)], 1
            )
        query, key = rotate(turned, cos, sin).split([s.heads, s.key_heads], 1)
        out_THW = documents_attention(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            laid.documents,
            s.window,
            s.head_width**-0.5,
        )
        return out_THW.reshape(len(qkv), -1)

    def _head_norm(self, x_THW: Tensor, weight: Tensor) -> Tensor:
        x = x_THW.float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.shape.norm_eps)
        return x.to(weight.dtype) * weight


class Decoder(nn.Module):
    """Embedding, layers, last norm; the head is its embedding or a matrix of its own."""

    def __init__(self, shape: DecoderShape, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList(Block(shape, i, tensors) for i in range(shape.layers))
        embedding = tensors["model.embed_tokens.weight"]
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("norm", tensors["model.norm.weight"], persistent=False)
        head = embedding if shape.tied else tensors["lm_head.weight"]
        self.register_buffer("head", head, persistent=False)
        self.register_buffer(
            "frequencies", shape.rotary.frequencies(shape.head_width), persistent=False
        )
        self.embedding: Tensor
        self.norm: Tensor
        self.head: Tensor
        self.frequencies: Tensor

    def forward(self, laid: Laid, positions: Tensor) -> Tensor:
        """Normed hidden states `[N, D]` at `positions`, what the head takes."""
        angles = laid.position_ids[:, None].float() * self.frequencies
        cos, sin = (f(angles).to(self.embedding.dtype)[:, None] for f in (torch.cos, torch.sin))
        x = nn.functional.embedding(laid.input_ids, self.embedding).float()
        update: Tensor | None = None
        for block in self.blocks:
            x, update = block(x, update, cos, sin, laid)
        x = (x + update)[positions] if update is not None else x[positions]
        return add_norm(x, None, self.norm, self.shape.norm_eps)[1]

    def refresh(self) -> None:
        """Take over what the optimiser did to the adapters."""
        for block in self.blocks:
            for name in PRODUCTS:
                getattr(block, name).refresh()
