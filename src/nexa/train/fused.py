"""The fused executor: LoRA on the decoder of `nexa.lm.decoder`, without a model library.

What it runs is what benchmarks show to pay: a Llama-like architecture, an adapter that is LoRA or
rsLoRA on any of the linear layers, no dropout. `fault` says of everything else why not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nexa.lm.adapters import PREFIX, LoraSpec, start, target_names
from nexa.lm.decoder.kernels import Kernels
from nexa.lm.decoder.linear import AdaptedLinear, Pair
from nexa.lm.decoder.model import Decoder, Laid, Running, projections
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.decoder.weights import load_decoder
from nexa.lm.documents import Documents, attention_on
from nexa.train.batches import Batch, TokenRow, common_prefix
from nexa.train.executor import Way
from nexa.train.losses import LabelHead
from nexa.train.spec import TrainSpec

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

# A shared beginning is worth laying once where it saves this share of all tokens: less is lost in
# the attention, which then copies the beginning's keys and values for every row.
PREFIX_SAVES = 0.05


def fault(spec: TrainSpec) -> str | None:
    """Why the fused engine cannot run this training, or None."""
    adapter = spec.adapter
    if adapter is None:
        return "it trains adapters, not all weights"
    if spec.quantize is not None:
        return "it does not run on a quantised base"
    if adapter.dora:
        return "it does not compute DoRA"
    if adapter.dropout:
        return "it does not compute LoRA with dropout"
    if spec.model.brings_code:
        return "the model brings Python code of its own"
    try:
        shape_of(spec.model.config)
    except UnsupportedDecoder as error:
        return f"{error.what}: {error.found}" if error.found else error.what
    return None


@dataclass
class FusedExecutor:
    """A decoder that carries an adapter. `pairs` has the adapter of each projection by name.

    Its loss is a pure function of weights and batch: no random number is drawn, and nothing is
    remembered from one pass to the next.
    """

    decoder: Decoder
    pairs: dict[str, Pair]
    way: Way
    config: Mapping[str, Any]

    @property
    def checkpointing(self) -> bool:
        """See `Executor`."""
        return self.decoder.running.checkpointing

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        self.decoder.running.checkpointing = wanted

    def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """See `Executor`."""
        hidden = self._hidden(
            batch.input_ids,
            batch.position_ids,
            Documents(batch.lengths, batch.prefix),
            batch.label_positions,
        )
        targets = batch.targets.to(hidden.device)
        return LabelHead(self.decoder.head).loss_sum(hidden, targets), len(targets)

    def adapters(self) -> list[nn.Parameter]:
        """See `Executor`."""
        return [p for pair in self.pairs.values() for p in (pair.a, pair.b)]

    def names(self) -> list[str]:
        """See `Executor`."""
        return [f"{PREFIX}{name}.lora_{side}.weight" for name in self.pairs for side in "AB"]

    def state(self) -> dict[str, Tensor]:
        """See `Executor`."""
        return {
            name: parameter.detach().to("cpu", torch.float32, copy=True)
            for name, parameter in zip(self.names(), self.adapters(), strict=True)
        }

    def evaluating(self) -> AbstractContextManager[None]:
        """See `Executor`."""
        return contextlib.nullcontext()  # there is no dropout

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """See `Executor`."""
        every = torch.arange(len(ids))
        hidden = self._hidden(torch.tensor(list(ids)), every, Documents((len(ids),)), every)
        return LabelHead(self.decoder.head).logits(hidden)

    def _hidden(
        self, ids: Tensor, position_ids: Tensor, documents: Documents, wanted: Tensor
    ) -> Tensor:
        """Hidden states of the positions `wanted`, with the adapter as it is now."""
        device = self.decoder.device
        self.decoder.refresh()
        laid = Laid(ids.to(device), position_ids.to(device), documents)
        hidden: Tensor = self.decoder(laid, wanted.to(device))
        return hidden


def fused(
    spec: TrainSpec,
    adapter: LoraSpec,
    rows: Sequence[TokenRow],
    precision: str,
    *,
    compiled: bool = False,
    reason: str = "asked for",
) -> FusedExecutor:
    """The executor of a training that `fault` has nothing against.

    `precision` is what products are computed in, `compiled` whether elementwise work is compiled,
    `reason` why it is this engine.

    Raises:
        ModelError: the weights do not fit the config, or a target fits no layer; named.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ranks = _ranks(spec, adapter)
    decoder = load_decoder(spec.model, dtype=DTYPES[precision], device=device, ranks=ranks)
    attention = attention_on(device)
    decoder.running = Running(Kernels(compiled=compiled), attention)
    pairs = {
        name: _pair(adapter, spec.seed, name, linear, part, device)
        for name, linear, part in decoder.linears()
        if name in ranks
    }
    decoder.carry(pairs)
    way = Way(
        "fused",
        reason,
        "flat",
        "the decoder computes attention inside each document",
        "label-only head",
        "the decoder's own",
        attention.told(max(len(row.ids) for row in rows)),
        "compiled" if compiled else "plain",
    )
    return FusedExecutor(decoder, pairs, way, spec.model.config)


def _ranks(spec: TrainSpec, adapter: LoraSpec) -> dict[str, int]:
    """The rank of each projection that carries an adapter, by name, in the model's order."""
    every = projections(shape_of(spec.model.config))
    parts = [name.split(".") for name in every]
    modules = dict.fromkeys(".".join(p[:end]) for p in parts for end in range(1, len(p) + 1))
    names = target_names(every, modules, adapter.target_modules)
    return {name: adapter.rank_of(name) for name in names}


def _pair(
    adapter: LoraSpec,
    seed: int,
    name: str,
    linear: AdaptedLinear,
    part: int,
    device: torch.device,
) -> Pair:
    """A fresh adapter of one projection, begun as on any other engine."""
    a, b = start(adapter, seed, name, linear.width, linear.sizes[part])
    return Pair(nn.Parameter(a.to(device)), nn.Parameter(b.to(device)), adapter.scale_of(name))


def shared_prefix(rows: Sequence[TokenRow], rows_per_step: int, micro_tokens: int) -> int:
    """Tokens that all rows begin with, if laying them once a batch pays; 0 if it does not."""
    prefix = common_prefix(rows) if len(rows) > 1 else 0
    step_rows = min(rows_per_step, len(rows))
    step_tokens = step_rows * sum(len(row.ids) for row in rows) / len(rows)
    batches = math.ceil(step_tokens / micro_tokens)
    saved = prefix * max(0, step_rows - batches)
    return prefix if saved >= PREFIX_SAVES * step_tokens else 0
