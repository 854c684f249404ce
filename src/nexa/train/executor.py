"""How a batch becomes a loss: the seam between the training loop and a model.

`Executor` is all that the loop knows. `generic` runs any causal language model of transformers,
`fused` the Llama family on a decoder of its own; `engines` chooses. Imports no model library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from nexa.train.batches import Batch

PROBE_TOKENS = 48  # of a document by which a model is compared with itself: enough to see anything


class Trained(Protocol):
    """What is trained: an adapter, or all weights."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The float32 parameters, in a fixed order."""
        ...

    @property
    def names(self) -> list[str]:
        """The name of each parameter, in the same order."""
        ...

    def state(self) -> dict[str, Tensor]:
        """A copy of them under the names they are saved by."""
        ...


class Executor(Protocol):
    """What training asks of a model.

    `checkpointing` keeps of each layer only what went into it, and computes the layer once more in
    the backward pass: less memory, a third more time, the same numbers. It may be set between two
    passes, and stays False where the model cannot.
    """

    checkpointing: bool

    @property
    def way(self) -> Way:
        """How the model is run, and why."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The model's config.json."""
        ...

    def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Summed cross-entropy over the batch's labels, with a graph, and their number."""
        ...

    def adapters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser moves."""
        ...

    def names(self) -> list[str]:
        """The name of each of these parameters, in the same order."""
        ...

    def state(self) -> dict[str, Tensor]:
        """A copy of what a checkpoint holds."""
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """For the length of a block the model is as it answers: without dropout."""
        ...

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Float32 logits `[T, V]` of one short document as the model is now, without dropout."""
        ...


@dataclass(frozen=True)
class Way:
    """How a model is run, and why: one line each, for the record."""

    engine: Literal["generic", "fused"]
    engine_reason: str
    layout: Literal["flat", "padded"]
    layout_reason: str
    head: Literal["label-only head", "plain logits"]
    head_reason: str
    attention: str = "the model's own"
    kernels: Literal["plain", "compiled"] = "plain"  # what runs the elementwise work
