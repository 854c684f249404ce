"""The proof that a written model folder is the model that was trained.

The folder is read from disk as any user reads it, and so are base and adapter. A layer at a time,
every stored tensor is compared with the merged one, rounded once (a flipped bit is found where no
logit would show it), and four models compute short texts: the folder, the base, the base with the
adapter run beside it, and the merge in float32. One layer is in memory, not a model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nexa.core.errors import TemplateError
from nexa.core.records import AdoptedBody, CheckpointBody
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.lm.decoder.model import EMBEDDING, HEAD
from nexa.lm.decoder.shape import DecoderShape, UnsupportedDecoder, shape_of
from nexa.lm.folder import read_config
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.agreement import ROWS, agreement
from nexa.weights.checks import Check, Parity
from nexa.weights.folder import config_differences
from nexa.weights.logits import Model, fits, logits_of
from nexa.weights.merging import Tuned, read_changes
from nexa.weights.probes import probe_prompts, probe_texts
from nexa.weights.tensors import StoredWeights, model_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Float32 sums in another order: measured 2e-6 on SmolLM2-135M, 1e-4 is far from any real fault.
LIVE_LIMIT = 1e-4
LIVE_TEXTS = 2  # exact to the last bits, so two texts say as much as eight
# Rounding to bfloat16 moves each weight by at most 1/256 of itself.
KL_LIMIT_NATS = 0.05
TOP1_LIMIT = 0.9
# The logits' change that survives, as a share of the adapter's own: 0 dropped, 1 right, 2 twice.
SHARE_LIMITS = (0.5, 1.5)
ONCE_LIMITS = (0.75, 1.25)
# Below this the adapter does nothing at all (float32 noise is about 1e-6).
ACTS_FLOOR = 1e-5


def prove(
    folder: Path,
    tuned: Tuned,
    *,
    base_folder: Path,
    checkpoint: CheckpointBody | AdoptedBody,
    adapter: Path | None,
    dtype: str,
) -> Parity:
    """Compare a written model folder with base and adapter.

    Args:
        folder: the merged model, as it lies on disk.
        tuned: what its weights should be, in float32.
        base_folder: the base model, for its tokenizer and configuration.
        checkpoint: what training recorded (chat template, end of turn).
        adapter: the adapter in PEFT's format; None when all weights were trained.
        dtype: the type that the weights were to be stored in.

    Every check is made, also after one has failed: the list of failures is the diagnosis.
    """
    tokenizer = read_tokenizer(base_folder)
    prompts, texts = probe_prompts(tokenizer), probe_texts(tokenizer)
    look = TensorLook(model_weights(folder), tuned, getattr(torch, dtype))
    shapes = _shapes(folder, base_folder)
    if isinstance(shapes, str):
        logit_checks = partial(_generic_checks, folder, tuned, texts, adapter, dtype)
    else:
        logit_checks = partial(_decoder_checks, look, shapes, texts, adapter)
    config = read_config(folder)
    different = config_differences(config, read_config(base_folder))
    # First, as it reads the tensors that `look` tells of.
    logits = list(logit_checks())
    checks = [
        Check("dtype", config.get("dtype") == dtype, config.get("dtype"), dtype),
        Check("config", not different, different or "equal", "equal to the base's"),
        *look.checks(),
        *text_checks(folder, prompts, checkpoint),
        *logits,
    ]
    return Parity(
        tuple(checks),
        {
            "dtype": dtype,
            "rounding": f"float32 to {dtype}, once, to nearest even",
            "prompts": len(texts),
            "tokens": sum(map(len, texts)),
            "logits_by": f"transformers: {shapes}" if isinstance(shapes, str) else "nexa",
        },
        refusal="the merged model is not the model that was trained",
        fix="nothing was published; keep the checkpoint and report this",
    )


# -- tensors: what is stored ---------------------------------------------------------------------


class TensorLook:
    """Stored tensors against merged ones, each read, merged and compared once.

    `read` hands the tensors on to who computes with them; `checks` looks at those that nobody has
    asked for, and tells.
    """

    def __init__(self, on_disk: StoredWeights, tuned: Tuned, kind: torch.dtype) -> None:
        self.on_disk, self.tuned, self.kind = on_disk, tuned, kind
        self._stored, self._wanted = frozenset(on_disk.names), frozenset(tuned.names)
        self._seen: set[str] = set()
        self._wrong: list[str] = []
        self._shares: list[float] = []

    def read(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """One weight in float32: as stored, of the base, merged.

        Of a head that only one side has, the other's is its embedding's, or empty.
        """
        base, wanted = self.tuned.pair(name)
        if name not in self._stored:
            return torch.empty(0), base, wanted
        stored = self.on_disk.stored(name)
        if name in self._wanted and name not in self._seen:
            self._compare(name, stored, base, wanted)
        return stored.float(), base, wanted

    def checks(self) -> Iterator[Check]:
        """Names, values, and how often the adapter was applied."""
        strangers = sorted(self._wanted ^ self._stored)
        yield Check("tensor_names", not strangers, strangers[:3] or "equal", "equal")
        for name in sorted((self._wanted & self._stored) - self._seen):
            self._compare(name, self.on_disk.stored(name), *self.tuned.pair(name))
        wrong = sorted(self._wrong)
        exact = "equal to float32 rounded once"
        yield Check("tensors_exact", not wrong, wrong[:3] or "equal", exact)
        shares, (low, high) = self._shares, ONCE_LIMITS
        worst = max(shares, key=lambda share: abs(share - 1), default=0.0)
        once = bool(shares) and all(low <= share <= high for share in shares)
        yield Check("applied_once", once, worst, list(ONCE_LIMITS))

    def head_checks(self, shape: DecoderShape) -> Iterator[Check]:
        """Embedding and output head as loaded are those that were trained, whatever the flag says.

        Whoever loads the folder ties or unties by config.json: a wrong flag changes the weights.
        """
        wrong = []
        for name in sorted({HEAD, *self.tuned.tied}):
            loaded = EMBEDDING if shape.tied and name == HEAD else name
            wanted = self.tuned.tensor(name).to(self.kind)
            if loaded not in self._stored or not torch.equal(self.on_disk.stored(loaded), wanted):
                wrong.append(name)
        tie = self.tuned.tie
        passed = not wrong and shape.tied == tie
        yield Check("tied_embeddings", passed, {"tie": shape.tied, "wrong": wrong}, {"tie": tie})

    def _compare(self, name: str, stored: Tensor, base: Tensor, wanted: Tensor) -> None:
        self._seen.add(name)
        rounded = wanted.to(self.kind)
        exact = stored.dtype == self.kind and torch.equal(stored, rounded)
        if not exact:
            self._wrong.append(name)
        if wanted is base or stored.shape != wanted.shape:
            return
        change = wanted - base
        size = float(change.square().sum())
        if not size:
            return
        # Rounding's own part is taken out: 1 is once, whatever the stored type loses.
        off = 0.0 if exact else float(((stored.float() - rounded.float()) * change).sum()) / size
        self._shares.append(1 + off)


# -- text: tokenizer, template, where it stops ----------------------------------------------------


def text_checks(
    folder: Path, prompts: list[list[int]], checkpoint: CheckpointBody | AdoptedBody
) -> Iterator[Check]:
    """Tokenizer, chat template and where generation stops, against what was trained under."""
    tokenizer: PreTrainedTokenizerBase = read_tokenizer(folder)
    wanted = checkpoint.template_sha256
    try:
        template = ChatTemplate(tokenizer)
    except TemplateError as error:
        yield Check("template", False, error.what, wanted)
        return
    yield Check("template", template.sha256 == wanted, template.sha256, wanted)
    here = probe_prompts(tokenizer)
    changed = [i for i, (a, b) in enumerate(zip(here, prompts, strict=True)) if a != b]
    yield Check("token_ids", not changed, changed or "equal", "equal to the base tokenizer's")
    generation = json.loads((folder / "generation_config.json").read_bytes())
    eos = generation.get("eos_token_id")
    stops = eos if isinstance(eos, list) else [eos]
    trained = checkpoint.end_of_turn
    ends = list(template.end_of_turn) == trained and trained[-1] in stops
    yield Check(
        "end_of_turn", ends, {"template": list(template.end_of_turn), "stops": stops}, trained
    )


# -- logits: what the folder computes -------------------------------------------------------------


@dataclass(frozen=True)
class MergeLogits:
    """What the four models say, `[T, V]`: `merged` of the first texts only, if it is asked."""

    reloaded: Tensor
    base: Tensor
    live: Tensor
    merged: Tensor | None = None

    def checks(self) -> Iterator[Check]:
        """The merge against the adapter, the adapter against the base, the rounding."""
        live, base, reloaded = self.live, self.base, self.reloaded
        if self.merged is not None:
            off = float((self.merged - live[: len(self.merged)]).abs().max() / live.abs().max())
            yield Check("merge_is_the_live_adapter", off <= LIVE_LIMIT, off, LIVE_LIMIT)
        acts, share = _effect(reloaded, base, live)
        yield Check("adapter_acts", acts >= ACTS_FLOOR, acts, ACTS_FLOOR)
        kept = SHARE_LIMITS[0] <= share <= SHARE_LIMITS[1]
        yield Check("tuned_unlike_base", kept, share, list(SHARE_LIMITS))
        found = agreement(reloaded, live)
        yield Check("rounded_top1", found.top1 >= TOP1_LIMIT, found.top1, TOP1_LIMIT)
        kl = found.kl_nats
        yield Check("rounded_kl_nats", kl <= KL_LIMIT_NATS, kl, KL_LIMIT_NATS)
        delta, limit = found.largest_delta, found.span / 10
        yield Check("rounded_max_delta", delta <= limit, delta, limit)


def _effect(reloaded: Tensor, base: Tensor, live: Tensor) -> tuple[float, float]:
    """How large the adapter's effect is beside the base's logits, and the share that is kept."""
    base_square = effect_square = product = 0.0
    for got, before, after in zip(*(x.split(ROWS) for x in (reloaded, base, live)), strict=True):
        effect = after - before
        base_square += float(before.square().sum())
        effect_square += float(effect.square().sum())
        product += float(((got - before) * effect).sum())
    share = product / effect_square if effect_square else 0.0
    return math.sqrt(effect_square / base_square), share


def _shapes(folder: Path, base_folder: Path) -> tuple[DecoderShape, DecoderShape] | str:
    """The shapes of the folder's model and of the base; or why they are not computed here."""
    try:
        return shape_of(read_config(folder)), shape_of(read_config(base_folder))
    except UnsupportedDecoder as error:
        return error.what


def _decoder_checks(
    look: TensorLook,
    shapes: tuple[DecoderShape, DecoderShape],
    texts: list[list[int]],
    adapter: Path | None,
) -> Iterator[Check]:
    """By `weights.logits`: the tensors are looked at as they pass by."""
    shape, base = shapes
    yield from look.head_checks(shape)
    stored = {name: look.on_disk.shape(name) for name in look.on_disk.names}
    unfit = fits(shape, stored) or fits(replace(base, tied=True), stored)
    yield Check("tensors_fit_config", not unfit, unfit[:3] or "all", "all")
    if unfit:
        return
    tuned = replace(base, tied=look.tuned.tie)
    if adapter is None:
        models = [Model(shape, 0), Model(base, 1), Model(tuned, 2)]
    else:
        spec, tensors = adapters.read(adapter)
        live = Model(base, 1, adapters=read_changes(tensors, spec))
        models = [Model(shape, 0), Model(base, 1), live, Model(tuned, 2, texts=LIVE_TEXTS)]
    yield from MergeLogits(*logits_of(models, texts, look.read)).checks()


def _generic_checks(
    folder: Path, tuned: Tuned, texts: list[list[int]], adapter: Path | None, dtype: str
) -> Iterator[Check]:
    """By transformers' own module."""
    # Only here: importing it takes longer than most proofs.
    from nexa.weights.generic_logits import merge_logits

    logits, tied = merge_logits(folder, tuned, texts, adapter, live_texts=LIVE_TEXTS, dtype=dtype)
    yield tied
    yield from MergeLogits(*logits).checks()
