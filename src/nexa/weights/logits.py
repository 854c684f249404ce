"""What models compute on short texts, a layer of each at a time.

A proof compares several models of one architecture: as stored, as it should be, the base, the base
with its adapter. Each layer's tensors are read once, go through the check of the tensors and the
products of every model, and are let go: what is in memory are two layers, not a model, whatever
its size. The formulas are written out here in float32, apart from those that training uses.

    B texts   L tokens of the longest   T tokens of all texts   D width   V vocabulary
    H query heads   K key heads   W head width
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from torch.nn.utils.rnn import pad_sequence

from nexa.lm.decoder.generation_model import can_pack
from nexa.lm.decoder.model import EMBEDDING, HEAD, NORM, PRODUCTS
from nexa.lm.decoder.shape import DecoderShape
from nexa.lm.documents import visible
from nexa.weights.threads import half_of_the_cores

# Of every source of weights the tensor of this name, float32, as transformers lays it.
Read = Callable[[str], Sequence[Tensor]]
Result = TypeVar("Result")


class Adapter(Protocol):
    """What an adapter does to the output of one product (`merging.Change`)."""

    def live(self, x_TI: Tensor, weight: Tensor, out_TO: Tensor) -> Tensor:
        """The output with the adapter run beside the weight, `[T, out]`."""


@dataclass(frozen=True)
class Model:
    """One of the models: its shape, which of the weights that are read are its own, its adapter.

    `adapters` are by the name of the weight that they change. `texts` is how many of the first
    texts it is asked for; None: all.
    """

    shape: DecoderShape
    source: int
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    texts: int | None = None

    @property
    def head(self) -> str:
        """The name of the weight that gives the logits."""
        return EMBEDDING if self.shape.tied else HEAD


def tensor_names(shape: DecoderShape) -> Iterator[str]:
    """Every weight that a model of this shape is computed with, in the order of computing."""
    yield EMBEDDING
    for layer in range(shape.layers):
        yield from (f"{_prefix(layer)}{name}" for name in _layer_names(shape))
    yield NORM
    if not shape.tied:
        yield HEAD


@torch.inference_mode()
def logits_of(models: Sequence[Model], texts: Sequence[Sequence[int]], read: Read) -> list[Tensor]:
    """The logits of each model at every token of its texts, `[T, V]`, float32.

    `read` is asked for the weights in the order of `tensor_names`, and for those of the head once
    more at the end; it reads a layer while the one before it is computed with.
    """
    runs = [_Run(model, texts[: model.texts]) for model in models]
    threads = _Threads(len(runs))
    with half_of_the_cores(), threads:  # the other half is for reading ahead
        embeddings = read(EMBEDDING)
        for run in runs:
            run.begin(embeddings[run.model.source])
        del embeddings
        names = list(_layer_names(models[0].shape))
        for layer in range(models[0].shape.layers):
            prefix = _prefix(layer)
            tensors = {name: read(f"{prefix}{name}") for name in names}
            threads.wait()
            for run in runs:
                own = {name: every[run.model.source] for name, every in tensors.items()}
                threads.start(run.layer, prefix, own)
        norms = read(NORM)
        found: dict[int, Future[Tensor]] = {}
        for head in sorted({model.head for model in models}):
            heads = read(head)
            threads.wait()
            for number, run in enumerate(runs):
                if run.model.head == head:
                    norm, own_head = (each[run.model.source] for each in (norms, heads))
                    found[number] = threads.start(run.end, norm, own_head)
        return [found[number].result() for number in range(len(runs))]


def fits(shape: DecoderShape, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The weights of this shape that are missing among `shapes`, or are of another size there."""
    return [name for name, size in _sizes(shape) if shapes.get(name) != size]


class _Threads:
    """One for each model, as far as there are cores, which they share.

    All cores at one product, one model after the other, take half as much time again: at every
    product torch's threads wait for the last of them, spinning.
    """

    def __init__(self, models: int) -> None:
        cores = torch.get_num_threads()
        count = min(models, cores)
        share = max(1, cores // count)
        self._pool = ThreadPoolExecutor(count, "logits", torch.set_num_threads, (share,))
        self._under_way: list[Future[Any]] = []

    def __enter__(self) -> None:
        """Nothing is started before it is asked for."""

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, compute: Callable[..., Result], *given: Any) -> Future[Result]:
        """Have something computed."""
        started = self._pool.submit(torch.inference_mode()(compute), *given)
        self._under_way.append(started)
        return started

    def wait(self) -> None:
        """Wait for all that was started.

        Raises:
            Exception: what one of them raised.
        """
        for started in self._under_way:
            started.result()
        self._under_way.clear()


def _prefix(layer: int) -> str:
    return f"model.layers.{layer}."


def _layer_names(shape: DecoderShape) -> Iterator[str]:
    """Within a layer, in the order of computing."""
    yield "input_layernorm.weight"
    for product, parts in PRODUCTS.items():
        if product == "gate_up":
            yield "post_attention_layernorm.weight"
        for part in parts:
            yield f"{part}.weight"
            if _has_bias(shape, product):
                yield f"{part}.bias"
        if product == "qkv" and shape.head_norms:
            yield "self_attn.q_norm.weight"
            yield "self_attn.k_norm.weight"


def _has_bias(shape: DecoderShape, product: str) -> bool:
    return {"qkv": shape.qkv_bias, "out": shape.out_bias}.get(product, shape.mlp_bias)


def _sizes(shape: DecoderShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight's name and size."""
    query, key = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    outs = {"q_proj": query, "k_proj": key, "v_proj": key, "gate_proj": shape.mlp_width}
    outs["up_proj"] = shape.mlp_width
    ins = {"o_proj": query, "down_proj": shape.mlp_width}
    for name in tensor_names(shape):
        part, kind = name.split(".")[-2:]
        if name in (EMBEDDING, HEAD):
            yield name, (shape.vocabulary, shape.width)
        elif part in ("q_norm", "k_norm"):
            yield name, (shape.head_width,)
        elif kind == "bias" or "norm" in part:
            yield name, (outs.get(part, shape.width),)
        else:
            yield name, (outs.get(part, shape.width), ins.get(part, shape.width))


class _Run:
    """One model on its way through its layers."""

    def __init__(self, model: Model, texts: Sequence[Sequence[int]]) -> None:
        self.model = model
        # For attention alone they are padded behind, where no earlier token sees it.
        self.ids_BL = pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True)
        lengths_B = torch.tensor([len(ids) for ids in texts])
        longest = self.ids_BL.shape[1]
        self.real = (torch.arange(longest) < lengths_B[:, None]).flatten()
        frequencies = model.shape.rotary.frequencies(model.shape.head_width)
        angles = torch.arange(longest).float()[:, None] * frequencies
        self.cos, self.sin = (torch.cat([part, part], -1) for part in (angles.cos(), angles.sin()))
        window = model.shape.window
        self.mask = visible(longest, longest, window) if 0 < window < longest else None
        self.x_TD: Tensor

    def begin(self, embedding_VD: Tensor) -> None:
        """From token ids to the residual stream."""
        self.x_TD = embedding_VD[self.ids_BL.flatten()[self.real]].float()

    def layer(self, prefix: str, weights: Mapping[str, Tensor]) -> None:
        """Attention and MLP, each added to the residual stream."""
        normed = self._norm(self.x_TD, weights["input_layernorm.weight"])
        query, key, value = self._heads(normed, prefix, weights)
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask, is_causal=self.mask is None, enable_gqa=True
        )
        attended = attended.transpose(1, 2).flatten(2).flatten(0, 1)[self.real]
        self.x_TD = self.x_TD + self._product(attended, prefix, "self_attn.o_proj", weights)
        normed = self._norm(self.x_TD, weights["post_attention_layernorm.weight"])
        gate = silu(self._product(normed, prefix, "mlp.gate_proj", weights))
        gate *= self._product(normed, prefix, "mlp.up_proj", weights)
        self.x_TD = self.x_TD + self._product(gate, prefix, "mlp.down_proj", weights)

    def end(self, norm_D: Tensor, head_VD: Tensor) -> Tensor:
        """From the residual stream to logits `[T, V]`."""
        return self._adapted(self._norm(self.x_TD, norm_D), HEAD, head_VD, None)

    def _heads(
        self, x_TD: Tensor, prefix: str, weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query `[B, H, L, W]`, key and value `[B, K, L, W]`; query and key normed and turned."""
        query, key, value = (
            self._padded(self._product(x_TD, prefix, part, weights))
            .unflatten(-1, (-1, self.model.shape.head_width))
            .transpose(1, 2)
            for part in PRODUCTS["qkv"]
        )
        if self.model.shape.head_norms:
            query = self._norm(query, weights["self_attn.q_norm.weight"])
            key = self._norm(key, weights["self_attn.k_norm.weight"])
        return self._turned(query), self._turned(key), value

    def _padded(self, x_TO: Tensor) -> Tensor:
        """`[B, L, out]`, zeros behind each text."""
        out = x_TO.new_zeros(len(self.real), x_TO.shape[-1])
        out[self.real] = x_TO
        return out.view(*self.ids_BL.shape, -1)

    def _turned(self, x: Tensor) -> Tensor:
        """`[..., L, W]` rotated by position: of each pair (x[i], x[i + W/2])."""
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight.shape, weight, self.model.shape.norm_eps)

    def _product(
        self, x_TI: Tensor, prefix: str, part: str, weights: Mapping[str, Tensor]
    ) -> Tensor:
        name = f"{part}.weight"
        bias = weights.get(f"{part}.bias")
        return self._adapted(x_TI, f"{prefix}{name}", weights[name], bias)

    def _adapted(self, x_TI: Tensor, name: str, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`x W^T`, with this weight's adapter beside it if the model has one, and the bias."""
        out = _times(x_TI, weight)
        adapter = self.model.adapters.get(name)
        if adapter is not None:
            out = adapter.live(x_TI, weight, out)
        return out if bias is None else out + bias


def _times(x_TI: Tensor, weight_OI: Tensor) -> Tensor:
    """`x W^T`; by oneDNN, which is two to three times as fast here as what torch asks (MKL)."""
    if can_pack(weight_OI):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x_TI, weight_OI, None, "none", [], "")
        return out
    return linear(x_TI, weight_OI)
