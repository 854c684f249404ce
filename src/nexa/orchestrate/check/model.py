"""Whether the model is whole, its weights are numbers, and something of it would be trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from nexa.core.errors import ModelError, NothingTrained, VocabularyError, WeightsError
from nexa.core.events import progress
from nexa.lm import adapters
from nexa.lm.folder import weight_files
from nexa.lm.tokenizer import load_tokenizer
from nexa.orchestrate import plan
from nexa.orchestrate.check.state import Flight
from nexa.orchestrate.model_shape import shape_of

CHUNK_VALUES = 1 << 24  # looked at at a time: 64 MB in float32, however large the tensor is
SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NAMED = 3  # tensors that a message names


def files(flight: Flight) -> str:
    """The model's files are there and make one model.

    Raises:
        ModelError: not found, not whole, pickles, code of its own, an adapter.
        NetworkError: it must be downloaded and cannot be.
    """
    if flight.base.adapter is not None:
        raise ModelError(
            f"{flight.base.name} is a base with an adapter on it",
            found=f"an adapter in {flight.base.adapter}",
            fix="train from its merged export instead: export/NAME@vN",
        )
    shape = shape_of(flight.base)
    flight.facts |= {
        "model": flight.base.name,
        "model_digest": flight.base.digest,
        "parameters": shape.parameters,
    }
    return f"{flight.base.name}: {shape.architecture}, {shape.parameters / 1e6:,.1f}M parameters"


def vocabulary(flight: Flight) -> str:
    """Every id that the tokenizer can give has its row in the embedding.

    Raises:
        VocabularyError: one has not: training would stop at it, or read another row's numbers.
    """
    config = flight.base.config
    text = {**(config.get("text_config") or {}), **config}
    rows = int(text.get("vocab_size") or 0)
    entries: dict[str, int] = load_tokenizer(flight.base).get_vocab()
    word, highest = max(entries.items(), key=lambda item: item[1])
    if highest >= rows:
        beyond = sum(number >= rows for number in entries.values())
        raise VocabularyError(
            f"the tokenizer of {flight.base.name} does not fit its embedding",
            found=f"{beyond:,} of its tokens have no row: {word!r} is {highest:,}, the embedding "
            f"ends at {rows - 1:,}",
            fix="put the tokenizer's files beside the model that they came with, or resize the "
            f"embedding to {highest + 1:,} rows and save the model",
        )
    for name in SPECIAL_IDS:
        ids = text.get(name)
        wrong = [
            i for i in (ids if isinstance(ids, list) else [ids]) if i is not None and i >= rows
        ]
        if wrong:
            raise VocabularyError(
                f"config.json of {flight.base.name} names a token that its embedding does not have",
                found=f"{name}: {wrong[0]:,}, the embedding ends at {rows - 1:,}",
                fix=f"correct {name} in config.json",
            )
    return f"{len(entries):,} tokens, {rows:,} rows in the embedding"


def weights(flight: Flight) -> str:
    """Every weight is a number; each tensor is read once, a piece at a time.

    Raises:
        WeightsError: names the tensors that hold NaN or an infinity.
        ModelError: a file cannot be read.
    """
    files = [flight.base.folder / name for name in weight_files(flight.base.files)]
    count, broken = 0, []
    with progress("reading weights", len(files), "files") as bar:
        for path in files:
            for name, bad in _bad_values(path):
                count += 1
                if bad:
                    broken.append(f"{name} ({bad:,} values)")
            bar.advance()
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise WeightsError(
            f"{len(broken)} of {count} tensors of {flight.base.name} hold NaN or an infinity",
            found=", ".join(broken[:NAMED]) + more,
            fix="download or copy the model again; if it was trained, go back to a checkpoint from "
            "before its loss broke",
        )
    return f"{count} tensors, all finite"


def trainable(flight: Flight) -> str:
    """Something is trained, and how much: told from the architecture, no weight is loaded.

    Raises:
        NothingTrained: the adapter fits no layer, or there is no parameter.
    """
    spec = plan.finetune(flight.config, flight.root, flight.base)
    model = _skeleton(flight)
    if spec.adapter is None:
        layers, trained = 0, sum(parameter.numel() for parameter in model.parameters())
    else:
        try:
            targets = adapters.target_layers(model, spec.adapter.target_modules)
        except ModelError as error:
            raise NothingTrained(
                f"nothing would be trained: {error.what}", found=error.found, fix=error.fix
            ) from error
        layers = len(targets)
        trained = sum(
            spec.adapter.numbers(name, layer.in_features, layer.out_features)
            for name, layer in targets.items()
        )
    if not trained:
        raise NothingTrained(
            "nothing would be trained: there is no parameter that could be",
            found=f"{type(model).__name__} has {layers} layers that fit lora.target_modules",
            fix="lora.target_modules: all-linear",
        )
    flight.facts["trainable_parameters"] = trained
    share = trained / max(1, sum(parameter.numel() for parameter in model.parameters()))
    where = f" on {layers} layers" if layers else ""
    return f"{trained:,} parameters{where}, {share:.1%} of the model"


def _skeleton(flight: Flight) -> PreTrainedModel:
    """The module tree without memory for its weights."""
    trusted = flight.config.model.trust_remote_code
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(
            flight.base.folder, local_files_only=True, trust_remote_code=trusted
        )
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    return model


def _bad_values(path: Path) -> Iterator[tuple[str, int]]:
    """Each tensor of a file with how many of its values are no numbers."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no dictionary
                yield name, sum(map(_count_bad, _pieces(file, name)))
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"cannot read {path}", found=str(error), fix="download or copy it again"
        ) from error


def _pieces(file: Any, name: str) -> Iterator[torch.Tensor]:
    part = file.get_slice(name)
    shape = part.get_shape()
    if not shape:
        yield file.get_tensor(name)
        return
    rows = max(1, CHUNK_VALUES // max(1, math.prod(shape[1:])))
    for begin in range(0, shape[0], rows):
        yield part[begin : begin + rows]


def _count_bad(piece: torch.Tensor) -> int:
    if not piece.is_floating_point():
        return 0
    wide = piece if piece.element_size() > 1 else piece.float()  # float8 has no isfinite
    return int(piece.numel() - wide.isfinite().sum())
