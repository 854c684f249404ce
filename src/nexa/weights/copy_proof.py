"""The proof that a model folder is another folder's model: the same numbers, rounded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.decoder.model import EMBEDDING, HEAD
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.folder import read_config
from nexa.lm.tokenizer import read_tokenizer
from nexa.weights.agreement import LIMITS, LOOSEST, agreement_checks
from nexa.weights.checks import Check, Parity
from nexa.weights.folder import config_differences, tied_names
from nexa.weights.logits import Model, fits, logits_of
from nexa.weights.probes import probe_texts
from nexa.weights.tensors import StoredWeights, model_weights
from nexa.weights.text_checks import (
    end_of_turn_check,
    listed_ends,
    template_ends,
    tokenizer_checks,
)

DERIVED = "rotary_emb.inv_freq"  # follows from the config: old files bring it
TOLD = 3  # names in a failed check


class CopiedWeights:
    """The weights of a folder that belong in a copy of it: a tied one once, nothing derived.

    Raises:
        ModelError: weights that the config ties and that differ.
    """

    def __init__(self, folder: Path) -> None:
        self.stored = model_weights(folder)
        tied = tied_names(folder)
        self.tie = bool(tied)
        for name, of in tied.items():
            both = {name, of} <= set(self.stored.names)
            if both and not torch.equal(self.stored.stored(name), self.stored.stored(of)):
                raise ModelError(
                    f"{folder.name} says its head and embeddings are tied, and brings two that "
                    "differ",
                    found=f"{name}, {of}",
                    fix="set tie_word_embeddings: false in its config.json",
                )
        # Of files that keep only the other one of a pair, that one.
        dropped = {name for name, of in tied.items() if of in self.stored.names}
        self.names = tuple(
            name for name in self.stored.names if name not in dropped and not name.endswith(DERIVED)
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """One tensor's shape."""
        return self.stored.shape(name)

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""
        return self.stored.tensor(name)


def prove_copy(folder: Path, source: Path, *, dtype: str | None = None) -> Parity:
    """Compare a model folder with the one that it was made from.

    `dtype` is the type that this project wrote it in. Of a folder that another tool made it is
    None: each tensor then has to be the source's, rounded to whatever type it has, and answers
    need not end where the source does not say so.

    Every check is made, also after one has failed: the list of failures is the diagnosis.

    Raises:
        ModelError: one of the two is no model folder that can be read.
    """
    tokenizer = read_tokenizer(source)
    texts = probe_texts(tokenizer)
    look = CopyLook(model_weights(folder), CopiedWeights(source), dtype)
    config, wanted = read_config(folder), read_config(source)
    stated, different = (
        config.get("dtype", config.get("torch_dtype")),
        config_differences(config, wanted),
    )
    logits, by = _logits(look, folder, source, texts)
    ends = listed_ends(source) + ([] if dtype is None else template_ends(tokenizer))
    checks = [
        Check("dtype", stated == look.dtype, stated, look.dtype),
        Check("config", not different, different or "equal", "equal to the source's"),
        *look.checks(),
        *tokenizer_checks(read_tokenizer(folder), tokenizer),
        end_of_turn_check(listed_ends(folder), ends),
        *logits,
    ]
    return Parity(
        tuple(checks),
        {
            "format": "safetensors",
            "dtype": look.dtype,
            "rounding": f"{look.dtype}, once, to nearest even",
            "prompts": len(texts),
            "tokens": sum(map(len, texts)),
            "logits_by": by,
        },
        refusal=f"{folder.name} is not the model it was made from",
        fix="nothing was kept; for weights_are_numbers: choose bfloat16 or float32, whose range "
        "is larger",
    )


class CopyLook:
    """Stored tensors against the source's, each read and compared once."""

    def __init__(self, stored: StoredWeights, source: CopiedWeights, dtype: str | None) -> None:
        self.stored, self.source = stored, source
        self.dtype = dtype or _dtype_of(stored)
        self._kind: torch.dtype | None = None if dtype is None else getattr(torch, dtype)
        tied = {HEAD} if source.tie and EMBEDDING in stored.names else set()
        self._has, self._wanted = frozenset(stored.names), frozenset(source.names)
        # A copy by another tool may bring a tied head beside its embedding, and what is derived.
        extra = {name for name in self._has if name in tied or name.endswith(DERIVED)}
        self._strange = sorted((self._has - (extra if dtype is None else set())) ^ self._wanted)
        self._seen: set[str] = set()
        self._wrong: list[str] = []
        self._infinite: list[str] = []

    def read(self, name: str) -> tuple[Tensor, Tensor]:
        """One weight in float32: as stored, of the source; empty where there is none."""
        wanted = self.source.tensor(name) if name in self._wanted else torch.empty(0)
        if name not in self._has:
            return torch.empty(0), wanted
        stored = self.stored.stored(name)
        if name in self._wanted and name not in self._seen:
            self._seen.add(name)
            if not torch.equal(stored, wanted.to(self._kind or stored.dtype)):
                self._wrong.append(name)
            if not torch.isfinite(stored).all():
                self._infinite.append(name)
        return stored.float(), wanted

    def checks(self) -> Iterator[Check]:
        """Names, values, numbers."""
        strange = self._strange
        yield Check("tensor_names", not strange, strange[:TOLD] or "equal", "equal")
        for name in sorted((self._wanted & self._has) - self._seen):
            self.read(name)
        wrong, infinite = sorted(self._wrong), sorted(self._infinite)
        exact = "equal to the source rounded once"
        yield Check("tensors_exact", not wrong, wrong[:TOLD] or "equal", exact)
        yield Check("weights_are_numbers", not infinite, infinite[:TOLD] or "all", "all")

    def head_checks(self, tie: bool) -> Iterator[Check]:
        """Embedding and output head as loaded are the source's, whatever the flag says."""
        loaded, wanted = (
            EMBEDDING if tied and EMBEDDING in names else HEAD
            for tied, names in ((tie, self._has), (self.source.tie, self._wanted))
        )
        same = loaded in self._has and wanted in self._wanted
        if same and loaded != wanted:
            stored = self.stored.stored(loaded)
            same = torch.equal(stored, self.source.tensor(wanted).to(stored.dtype))
        told = {"tie": tie, "head": "equal" if same else "other"}
        limit = {"tie": self.source.tie, "head": "equal"}
        yield Check("tied_embeddings", told == limit, told, limit)


def _logits(
    look: CopyLook, folder: Path, source: Path, texts: list[list[int]]
) -> tuple[list[Check], str]:
    """What both compute, and by what it was computed."""
    allowed = LIMITS.get(look.dtype, LOOSEST)
    try:
        shapes = [shape_of(read_config(place)) for place in (folder, source)]
    except UnsupportedDecoder as error:
        # Only here: importing it takes longer than most proofs.
        from nexa.weights.generic_logits import folder_logits

        got, wanted = (folder_logits(place, texts) for place in (folder, source))
        return list(agreement_checks(got, wanted, allowed)), f"transformers: {error.what}"
    checks = list(look.head_checks(shapes[0].tied))
    stored = {name: look.stored.shape(name) for name in look.stored.names}
    unfit = fits(shapes[0], stored) or fits(replace(shapes[1], tied=True), stored)
    checks.append(Check("tensors_fit_config", not unfit, unfit[:TOLD] or "all", "all"))
    if unfit:
        return checks, "none"
    models = [Model(shape, number) for number, shape in enumerate(shapes)]
    got, wanted = logits_of(models, texts, look.read)
    return [*checks, *agreement_checks(got, wanted, allowed)], "nexa"


def _dtype_of(stored: StoredWeights) -> str:
    """The type of most of the weights of a folder."""
    sizes: dict[str, int] = {}
    for name in stored.names:
        tensor = stored.stored(name)
        kind = str(tensor.dtype).removeprefix("torch.")
        sizes[kind] = sizes.get(kind, 0) + tensor.numel()
    return max(sizes, key=lambda kind: sizes[kind])
