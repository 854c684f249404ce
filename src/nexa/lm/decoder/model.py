"""The fused decoder: a Llama-like model as few large products, for training an adapter on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nexa.lm.decoder.functions import (
    Norm,
    final_norm,
    norm_product,
    product,
    split_heads,
    swiglu_product,
)
from nexa.lm.decoder.kernels import Kernels
from nexa.lm.decoder.linear import AdaptedLinear, Pair
from nexa.lm.decoder.shape import DecoderShape
from nexa.lm.documents import CPU_ATTENTION, Attention, Documents, documents_attention

# The projections of a layer by the product that computes them, in its rows' order.
PRODUCTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def projections(shape: DecoderShape) -> list[str]:
    """The names of all linear layers but the head, in the model's order."""
    parts = [part for product_parts in PRODUCTS.values() for part in product_parts]
    return [f"model.layers.{layer}.{part}" for layer in range(shape.layers) for part in parts]


@dataclass(frozen=True)
class Laid:
    """A flat batch: whole documents end to end, a prefix that all share computed once."""

    input_ids: Tensor  # [T]
    position_ids: Tensor  # [T], from 0 in each document; after a shared prefix they go on from it
    documents: Documents


@dataclass
class Running:
    """How a decoder computes what it computes: the same numbers up to rounding, in other time."""

    kernels: Kernels
    attention: Attention = CPU_ATTENTION
    checkpointing: bool = False  # keep each block's input only, and compute it again


class Block(nn.Module):
    """One layer. In and out: the residual stream before the last update, and that update."""

    def __init__(
        self,
        shape: DecoderShape,
        name: str,
        ranks: Mapping[str, int],
        dtype: torch.dtype,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.shape, self.name = shape, name

        def linear(product: str, sizes: tuple[int, ...], width: int, bias: bool) -> AdaptedLinear:
            reserved = [ranks.get(f"{name}.{part}", 0) for part in PRODUCTS[product]]
            return AdaptedLinear(
                sizes, width, bias=bias, ranks=reserved, dtype=dtype, device=device
            )

        query, key = shape.heads * shape.head_width, shape.key_heads * shape.head_width
        self.qkv = linear("qkv", (query, key, key), shape.width, shape.qkv_bias)
        self.out = linear("out", (shape.width,), query, shape.out_bias)
        self.gate_up = linear("gate_up", (shape.mlp_width,) * 2, shape.width, shape.mlp_bias)
        self.down = linear("down", (shape.width,), shape.mlp_width, shape.mlp_bias)
        # Norms are computed in float32, their few weights with them.
        self.register_buffer("attention_norm", torch.empty(shape.width, device=device))
        self.register_buffer("mlp_norm", torch.empty(shape.width, device=device))
        if shape.head_norms:
            self.register_buffer("query_norm", torch.empty(shape.head_width, device=device))
            self.register_buffer("key_norm", torch.empty(shape.head_width, device=device))
        self.attention_norm: Tensor
        self.mlp_norm: Tensor
        self.query_norm: Tensor
        self.key_norm: Tensor

    def forward(
        self,
        x_TD: Tensor,
        update_TD: Tensor | None,
        angles: tuple[Tensor, Tensor],
        documents: Documents,
        running: Running,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attention, then the MLP; the last update is left to the next norm to add.

        Only `rows` go on after the attention, if they are given: nobody asks for the others.
        """
        shape, run = self.shape, running.kernels
        x_TD, qkv = norm_product(
            run, x_TD, update_TD, Norm(self.attention_norm, shape.norm_eps), self.qkv
        )
        sizes = (shape.heads, shape.key_heads)
        query, key, value = split_heads(run, qkv, sizes, angles, self._head_norm())
        attended = documents_attention(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            documents,
            shape.window,
            shape.head_width**-0.5,
            running.attention,
        ).flatten(1)
        if rows is not None:
            x_TD, attended = x_TD[rows], attended[rows]
        update_TD = product(attended, self.out)
        x_TD, gate_up = norm_product(
            run, x_TD, update_TD, Norm(self.mlp_norm, shape.norm_eps), self.gate_up
        )
        return x_TD, swiglu_product(run, gate_up, self.down)

    def _head_norm(self) -> Norm | None:
        """The norm of all query and key heads together, `[H + K, W]`."""
        if not self.shape.head_norms:
            return None
        query = self.query_norm.expand(self.shape.heads, -1)
        key = self.key_norm.expand(self.shape.key_heads, -1)
        return Norm(torch.cat([query, key]), self.shape.norm_eps)

    def linears(self) -> Iterator[tuple[str, AdaptedLinear, int]]:
        """Each projection in the model's order: its full name, its product, its part of it."""
        for product_name, parts in PRODUCTS.items():
            for number, part in enumerate(parts):
                yield f"{self.name}.{part}", getattr(self, product_name), number

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """Where each tensor of the layer stands, under its name in the model's files."""
        for name, linear, part in self.linears():
            weight, bias = linear.parts()[part]
            yield f"{name}.weight", weight
            if bias is not None:
                yield f"{name}.bias", bias
        yield f"{self.name}.input_layernorm.weight", self.attention_norm
        yield f"{self.name}.post_attention_layernorm.weight", self.mlp_norm
        if self.shape.head_norms:
            yield f"{self.name}.self_attn.q_norm.weight", self.query_norm
            yield f"{self.name}.self_attn.k_norm.weight", self.key_norm


class Decoder(nn.Module):
    """Embedding, layers, last norm; the head is its embedding or a matrix of its own.

    Memory is taken and not filled: `places` says what goes where, `weights.load_decoder` puts it
    there. `ranks` has the rank of the adapter of each projection that will carry one, by name.
    """

    def __init__(
        self,
        shape: DecoderShape,
        *,
        dtype: torch.dtype,
        device: torch.device | None = None,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.running = Running(Kernels())
        self.layers = [
            Block(shape, f"model.layers.{layer}", ranks or {}, dtype, device)
            for layer in range(shape.layers)
        ]
        self.blocks = nn.ModuleList(self.layers)
        size = (shape.vocabulary, shape.width)
        embedding = torch.empty(size, dtype=dtype, device=device)
        self.register_buffer("embedding", embedding)
        self.register_buffer("norm", torch.empty(shape.width, device=device))
        self.register_buffer("head", embedding if shape.tied else torch.empty_like(embedding))
        self.register_buffer(
            "frequencies", shape.rotary.frequencies(shape.head_width).to(embedding.device)
        )
        self.embedding: Tensor
        self.norm: Tensor
        self.head: Tensor
        self.frequencies: Tensor

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embedding.device

    def forward(self, laid: Laid, positions: Tensor) -> Tensor:
        """Normed hidden states `[N, D]` at `positions`, what the head takes.

        Deterministic: equal weights and batches give equal bits.
        """
        angles = self.angles(laid.position_ids)
        x = nn.functional.embedding(laid.input_ids, self.embedding).float()
        update: Tensor | None = None
        last = len(self.layers) - 1
        for number, block in enumerate(self.layers):
            rows = positions if number == last else None
            arguments = (x, update, angles, laid.documents, self.running, rows)
            if self.running.checkpointing and torch.is_grad_enabled():
                # Without reentry, and with no random numbers to bring back: there are none.
                x, update = checkpoint(
                    block, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x, update = block(*arguments)
        norm = Norm(self.norm, self.shape.norm_eps)
        x = x + cast(Tensor, update)  # every model has a layer
        return final_norm(self.running.kernels, x, norm, self.embedding.dtype)

    def angles(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the rotation at each position, `[T, 1, W / 2]`."""
        radians = position_ids[:, None, None].float() * self.frequencies
        return radians.cos().to(self.embedding.dtype), radians.sin().to(self.embedding.dtype)

    def linears(self) -> Iterator[tuple[str, AdaptedLinear, int]]:
        """Every projection in the model's order: its full name, its product, its part of it."""
        for block in self.layers:
            yield from block.linears()

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """Where each tensor stands, under its name in the model's files."""
        yield EMBEDDING, self.embedding
        for block in self.layers:
            yield from block.places()
        yield NORM, self.norm
        if not self.shape.tied:
            yield HEAD, self.head

    def carry(self, pairs: Mapping[str, Pair]) -> None:
        """Take over adapters by the names of their projections; ranks as they were foreseen."""
        by_linear: dict[AdaptedLinear, dict[int, Pair]] = {}
        for name, linear, part in self.linears():
            if name in pairs:
                by_linear.setdefault(linear, {})[part] = pairs[name]
        for linear, own in by_linear.items():
            linear.carry(own)

    def refresh(self) -> None:
        """Take over what the optimiser did to the adapters."""
        for block in self.layers:
            for name in PRODUCTS:
                linear: AdaptedLinear = getattr(block, name)
                linear.refresh()
