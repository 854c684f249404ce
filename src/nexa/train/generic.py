"""The generic executor: any causal language model of transformers, run as it is found to allow.

Flat batches with attention per document where the architecture can take them, padded ones where it
cannot. Which of the two is settled by a probe at the start, never assumed: two documents laid end
to end must give the logits that each gives alone, and none of the second's may depend on the first.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nexa.core.events import emit
from nexa.lm.attention import UnsupportedAttention, documents, per_document
from nexa.lm.documents import attention_on
from nexa.train.batches import Batch, TokenRow, lay
from nexa.train.executor import PROBE_TOKENS, Trained, Way
from nexa.train.losses import LabelHead, label_head

# How far two computations of the same logits may be apart: root mean square over the logits'
# standard deviation, in the worse document. Measured on SmolLM2-135M: rounding alone gives 0.045
# in bfloat16 and 1.4e-6 in float32; a document that sees the one before it 0.37 to 0.73.
PROBE_TOLERANCE = {torch.bfloat16: 0.15, torch.float16: 0.05, torch.float32: 1e-3}


@dataclass
class GenericExecutor:
    """A transformers model, its attention and head as the probe found them to be right."""

    model: PreTrainedModel
    trained: Trained
    way: Way
    label_head: LabelHead | None
    autocast: bool = False

    @property
    def checkpointing(self) -> bool:
        """See `Executor`."""
        return self.model.is_activation_checkpointing

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        if not wanted:
            self.model.activation_checkpointing_disable()
        elif self.model.supports_gradient_checkpointing:
            # Layers get their mask as an argument: what describes the documents is in it, and is
            # there when the layer runs again in the backward pass.
            self.model.activation_checkpointing_enable({"use_reentrant": False})
            self.model.disable_input_require_grads()  # only reentrant checkpoints need that

    def forward_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """See `Executor`."""
        device = self.model.device
        where, targets = batch.label_positions.to(device), batch.targets.to(device)
        inputs = flat_inputs(batch, device)
        if self.way.layout == "padded":
            inputs, cells = padded_inputs(batch, device)
            where = cells[where]
        with compute(self.model, self.autocast), documents(batch.lengths):
            if self.label_head is not None:
                hidden = self.model.base_model(**inputs, use_cache=False)[0]
                loss = self.label_head.loss_sum(hidden.flatten(0, 1)[where], targets)
            else:
                logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[where]
                loss = nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        return loss, len(targets)

    def adapters(self) -> list[nn.Parameter]:
        """See `Executor`."""
        return self.trained.parameters

    def state(self) -> dict[str, Tensor]:
        """See `Executor`."""
        return self.trained.state()

    def names(self) -> list[str]:
        """See `Executor`."""
        return self.trained.names

    @property
    def config(self) -> Mapping[str, Any]:
        """See `Executor`."""
        return config_of(self.model.config)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """See `Executor`."""
        self.model.train(False)
        try:
            yield
        finally:
            self.model.train(True)

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """See `Executor`."""
        with self.evaluating(), compute(self.model, self.autocast):
            return _plain(self.model, torch.tensor([list(ids)], device=self.model.device))


def config_of(config: PretrainedConfig) -> dict[str, Any]:
    """A text model's config.json, with the usual names beside the architecture's own."""
    text = config.get_text_config()
    usual = {name: getattr(text, name) for name in text.attribute_map if hasattr(text, name)}
    return {**text.to_dict(), **usual}


@contextlib.contextmanager
def generic(
    model: PreTrainedModel,
    trained: Trained,
    rows: Sequence[TokenRow],
    *,
    autocast: bool = False,
    reason: str = "asked for",
) -> Iterator[GenericExecutor]:
    """The generic executor for the length of a block; `rows` are what the probe is made of.

    `reason` is why it is this one.

    Says by a `note` event what has to be done the slower way. The model is left as it was.
    """
    was_training = model.training
    model.train(False)  # dropout would make every comparison fail
    both = [row.ids[:PROBE_TOKENS] for row in (rows[0], rows[-1])]
    longest = max(len(row.ids) for row in rows)
    way, head = _probe(model, both, longest, autocast, reason)
    if way.layout == "padded":
        emit("note", text=f"training on padded rows, about half as fast: {way.layout_reason}")
    if head is None:
        emit("note", text=f"training with whole logits, in more memory: {way.head_reason}")
    try:
        with per_document(model) if way.layout == "flat" else contextlib.nullcontext():
            model.train()
            executor = GenericExecutor(model, trained, way, head, autocast)
            try:
                yield executor
            finally:
                executor.checkpointing = False
    finally:
        model.train(was_training)


def flat_inputs(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A batch as the one long row that per-document attention takes."""
    return {
        "input_ids": batch.input_ids[None].to(device),
        "position_ids": batch.position_ids[None].to(device),
    }


def padded_inputs(batch: Batch, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """A batch with one document a row, padded on the right, and the cell of each token in it.

    Padding is masked by position; which id stands there makes no difference.
    """
    longest = max(batch.lengths)
    row = torch.repeat_interleave(torch.arange(len(batch.lengths)), torch.tensor(batch.lengths))
    cells = (row * longest + batch.position_ids).to(device)
    grid = torch.zeros(len(batch.lengths) * longest, dtype=torch.long, device=device)
    ids = grid.index_copy(0, cells, batch.input_ids.to(device))
    mask = grid.index_fill(0, cells, 1)
    shape = (len(batch.lengths), longest)
    return {"input_ids": ids.view(shape), "attention_mask": mask.view(shape)}, cells


# -- The probe -----------------------------------------------------------------------------------


@torch.no_grad()
def _probe(
    model: PreTrainedModel, both: list[list[int]], longest: int, autocast: bool, reason: str
) -> tuple[Way, LabelHead | None]:
    """Find out how this model may be run: flat or padded, label-only head or whole logits."""
    flat = lay([TokenRow("", ids, [False] * len(ids)) for ids in both])
    with compute(model, autocast):
        alone = [_plain(model, torch.tensor([ids], device=model.device)) for ids in both]
        tolerance = PROBE_TOLERANCE[torch.bfloat16 if autocast else model.dtype]
        layout_fault = _flat_fault(model, flat, alone, tolerance)
        first = torch.tensor([both[0]], device=model.device)
        head, head_fault = _head(model, first, alone[0], tolerance)
    way = Way(
        "generic",
        reason,
        "padded" if layout_fault else "flat",
        layout_fault or "each document equal to itself alone",
        "plain logits" if head_fault else "label-only head",
        head_fault or "equal to the model's own logits",
        "the model's own" if layout_fault else attention_on(model.device).told(longest),
    )
    return way, head


def _plain(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Logits `[T, V]` of one document, by the model as it came."""
    logits: Tensor = model(input_ids=input_ids, use_cache=False).logits[0].float()
    return logits


def _flat_fault(
    model: PreTrainedModel, flat: Batch, alone: list[Tensor], tolerance: float
) -> str | None:
    """Why this model cannot be run on flat batches, or None."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return f"{type(model).__name__} takes no position ids"
    try:
        with per_document(model), documents(flat.lengths):
            together, leaks = _together(model, flat)
            with torch.random.fork_rng(devices=[]):
                model.train(True)  # and once as in training: an attention with dropout is refused
                model(**flat_inputs(flat, model.device), use_cache=False)
    except UnsupportedAttention as error:
        return f"{error.what}: {error.found}" if error.found else error.what
    finally:
        model.train(False)
    if leaks:
        return f"in {type(model).__name__} a document changes the one after it"
    parts = zip(together.split(flat.lengths), alone, strict=True)
    distance = max(_distance(part, logits) for part, logits in parts)
    if distance <= tolerance:
        return None
    return f"documents end to end differ from each alone by {distance:.2g} of the logits' spread"


def _together(model: PreTrainedModel, flat: Batch) -> tuple[Tensor, bool]:
    """Logits of a flat batch, and whether any of the last document's depend on the ones before.

    They do if and only if their gradient by the earlier embeddings is not exactly zero: this sees
    what the mask does not rule (convolutions, recurrent states), however little it changes.
    """
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, embedded: Tensor) -> Tensor:
        leaves.append(embedded.detach().requires_grad_())
        return leaves[-1]

    hook = model.get_input_embeddings().register_forward_hook(cut)
    try:
        with torch.enable_grad():
            inputs = flat_inputs(flat, model.device)
            logits: Tensor = model(**inputs, use_cache=False).logits[0].float()
            (by_embedding,) = torch.autograd.grad(logits[-flat.lengths[-1] :].sum(), leaves)
    finally:
        hook.remove()
    before = by_embedding.flatten(0, -2)[: -flat.lengths[-1]]
    return logits.detach(), bool(before.any())


def _head(
    model: PreTrainedModel, input_ids: Tensor, expected: Tensor, tolerance: float
) -> tuple[LabelHead | None, str | None]:
    """The label-only head if it gives the model's own logits, or why it does not."""
    head = label_head(model)
    if head is None or model.base_model is model:
        return None, f"{type(model).__name__} has no linear output head on a body of its own"
    hidden = model.base_model(input_ids=input_ids, use_cache=False)[0][0]
    if hidden.shape[-1] != head.weight.shape[1]:
        return (
            None,
            f"the hidden states of {type(model).__name__} do not go into its head as they are",
        )
    distance = _distance(head.logits(hidden), expected)
    if distance <= tolerance:
        return head, None
    return None, f"head and hidden states alone differ by {distance:.2g} of the logits' spread"


def _distance(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference, in standard deviations of `b`."""
    return float((a - b).square().mean().sqrt() / b.std())


def compute(model: PreTrainedModel, autocast: bool) -> torch.autocast:
    """The precision of a forward pass: the model's own, or bfloat16 over float32 weights."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=autocast)
