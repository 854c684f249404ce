"""The models that go into a merge: their configs, and their tensors by name and shape.

Only headers are read. The one exception: where some models tie their head to their embedding and
others do not, the stored heads are compared with the embeddings, a few rows at a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig

from nexa.core.errors import ModelError
from nexa.lm.auto import auto_class
from nexa.lm.decoder.model import EMBEDDING, HEAD
from nexa.lm.decoder.shape import UnsupportedDecoder, shape_of
from nexa.lm.folder import weight_files
from nexa.lm.resolve import ModelFiles

LAYER = re.compile(r"(?P<stack>.+?\.)(?P<number>\d+)\.(?P<rest>.+)")
FLOATS = ("F64", "F32", "F16", "BF16")
# Tables that older versions of transformers stored, and every version computes anew.
COMPUTED = ("rotary_emb.inv_freq", "attn.masked_bias", "attn.bias_mask")
# What a config says without changing a number that the model computes, and what has its own rule.
WITHOUT_EFFECT = {
    *("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "sep_token_id"),
    *("chunk_size_feed_forward", "is_encoder_decoder", "return_dict", "problem_type"),
    *("output_attentions", "output_hidden_states", "id2label", "label2id", "pretraining_tp"),
    *("initializer_range", "router_aux_loss_coef", "output_router_logits"),
    *("num_hidden_layers", "vocab_size", "tie_word_embeddings", "max_position_embeddings"),
    "max_window_layers",  # layer_types follow from it, and are compared layer by layer
}
ROWS_AT_ONCE = 4096
SHOWN = 8


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    file: str
    shape: tuple[int, ...]
    kind: str
    """As safetensors names it: BF16."""


@dataclass(frozen=True)
class Parent:
    """One model of a merge. `layers` has for each layer: rest of the name -> whole name."""

    files: ModelFiles
    config: Mapping[str, Any]
    """With transformers' defaults, under the names that its code reads."""
    tied: bool
    stored: Mapping[str, Stored]
    layers: tuple[Mapping[str, str], ...]
    outer: tuple[str, ...]
    """The tensors that belong to no layer."""
    stack: str
    """What the names of the layers begin with: `model.layers.`."""

    @property
    def name(self) -> str:
        """What the model is called in messages."""
        return self.files.name

    @cached_property
    def per_layer(self) -> dict[str, list[Any]]:
        """Those values of the config that are lists with one entry a layer."""
        return {
            key: value
            for key, value in self.config.items()
            if isinstance(value, list)
            and len(value) == len(self.layers)
            and key not in WITHOUT_EFFECT
        }

    def head_differs(self, head: str, embedding: str) -> bool:
        """Whether the stored head holds other numbers than the embedding."""
        if self.stored[head].shape != self.stored[embedding].shape:
            return True
        first, second = (self._rows_of(head), self._rows_of(embedding))
        rows = self.stored[head].shape[0]
        return any(
            not torch.equal(
                first[start : start + ROWS_AT_ONCE].float(),
                second[start : start + ROWS_AT_ONCE].float(),
            )
            for start in range(0, rows, ROWS_AT_ONCE)
        )

    def _rows_of(self, name: str) -> Any:
        file: Any = safe_open(self.files.folder / self.stored[name].file, framework="pt")
        return file.get_slice(name)


@dataclass(frozen=True)
class Ends:
    """How a family calls the tensors whose rows are tokens."""

    embedding: str
    head: str


def read_parent(files: ModelFiles) -> Parent:
    """A model's config and the names, shapes and types of its tensors.

    Raises:
        ModelError: an adapter, code of its own, no config that transformers knows, weights that are
            no floating-point numbers, or tensors that are not one stack of layers.
    """
    if files.adapter is not None:
        raise ModelError(
            f"{files.name} is an adapter on a model, not a whole one",
            found=f"{files.adapter}",
            fix="merge it into its model first, or merge adapters with each other",
        )
    if files.brings_code:
        raise ModelError(f"{files.name} brings Python code of its own: such models are not merged")
    config, tied = _told(files)
    stored = _stored(files)
    integers = [name for name, tensor in stored.items() if tensor.kind not in FLOATS]
    if integers:
        raise ModelError(
            f"{files.name} has tensors that are no floating-point numbers",
            found=some([f"{name} ({stored[name].kind})" for name in integers]),
            fix="use the model's original weights",
        )
    stack, layers, outer = _layers(files, stored, int(config["num_hidden_layers"]))
    return Parent(files, config, tied, stored, layers, outer, stack)


def ends_of(parent: Parent) -> Ends:
    """Which tensors are embedding and head.

    Raises:
        ModelError: it is no causal language model, or keeps them under other names.
    """
    try:
        shape_of(parent.config)
        ends = Ends(EMBEDDING, HEAD)
    except UnsupportedDecoder:
        ends = _asked_ends(parent)
    if ends.embedding not in parent.stored:
        raise ModelError(
            f"{parent.name} keeps its embedding under another name than transformers",
            found=f"no {ends.embedding} among its {len(parent.stored)} tensors",
            fix="load it with transformers and save it again: save_pretrained",
        )
    return ends


def _asked_ends(parent: Parent) -> Ends:
    """Of a family that the decoder does not know: built without memory, only to be asked."""
    # Only here: importing it takes longer than merging a small model.
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_config(parent.files))
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{parent.name} is not a causal language model", found=str(error).splitlines()[0]
        ) from error
    modules = {id(module): name for name, module in model.named_modules()}
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    return Ends(f"{modules[id(inner)]}.weight", f"{modules[id(outer)]}.weight")


def compare(parents: Sequence[Parent], owner: int) -> tuple[dict[str, Any], list[str]]:
    """What the child's config has of its own because the parents differ, and what to tell of it.

    Raises:
        ModelError: parents that compute otherwise; a table of what differs.
    """
    first = parents[owner]
    for other in parents:
        lines = _differences(first, other)
        if lines:
            raise ModelError(
                f"{first.name} and {other.name} are not of one architecture",
                found="\n".join(lines),
                fix="merge models that were trained from one base",
            )
    rooms = [parent.config.get("max_position_embeddings") for parent in parents]
    if len(set(rooms)) == 1:
        return {}, []
    told = ", ".join(f"{p.name} {room}" for p, room in zip(parents, rooms, strict=True))
    smallest = min(room for room in rooms if room is not None)
    note = f"the context lengths differ ({told}): the child has the smallest, {smallest}"
    return {"max_position_embeddings": smallest}, [note]


def some(names: Sequence[str]) -> str:
    """A few of some names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# -- reading -------------------------------------------------------------------------------------


def _told(files: ModelFiles) -> tuple[dict[str, Any], bool]:
    """What config.json says, and whether it ties the embeddings.

    Of a family that the decoder does not know, transformers is asked for what is left out.
    """
    try:
        return files.config, shape_of(files.config).tied
    except UnsupportedDecoder:
        config = _config(files)
        return config.to_dict(), bool(config.tie_word_embeddings)


def _config(files: ModelFiles) -> PretrainedConfig:
    try:
        config: PretrainedConfig = auto_class("AutoConfig").from_pretrained(
            files.folder, local_files_only=True
        )
        int(config.num_hidden_layers)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"transformers cannot read the config of {files.name}, or it names no layers",
            found=str(error).splitlines()[0],
        ) from error
    return config


def _stored(files: ModelFiles) -> dict[str, Stored]:
    found = {}
    for file in weight_files(files.files):
        path = files.folder / file
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # it is no dictionary
                    part = tensors.get_slice(name)
                    found[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path}", found=str(error)) from error
    return {name: found[name] for name in sorted(found) if not name.endswith(COMPUTED)}


def _layers(
    files: ModelFiles, stored: Mapping[str, Stored], count: int
) -> tuple[str, tuple[dict[str, str], ...], tuple[str, ...]]:
    """The stack's name, each layer's tensors, and what is in no layer."""
    matches = {name: match for name in stored if (match := LAYER.fullmatch(name))}
    stacks = sorted({match["stack"] for match in matches.values()})
    numbers = {int(match["number"]) for match in matches.values()}
    if len(stacks) != 1 or numbers != set(range(count)):
        raise ModelError(
            f"the tensors of {files.name} are not one stack of {count} layers",
            found=f"layers {min(numbers, default=None)} to {max(numbers, default=None)} of "
            + (some([f"{stack}N" for stack in stacks]) or "no stack"),
            fix="only language models whose layers are one stack are merged",
        )
    layers: tuple[dict[str, str], ...] = tuple({} for _ in range(count))
    for name, match in matches.items():
        layers[int(match["number"])][match["rest"]] = name
    return stacks[0], layers, tuple(name for name in stored if name not in matches)


# -- comparing -----------------------------------------------------------------------------------


def _differences(first: Parent, other: Parent) -> list[str]:
    """What the two configs say differently, a line each."""
    if _effective(first.config) == _effective(other.config):
        return []
    # Only one of the files may say what is the default: transformers' code knows.
    ours, theirs = _config(first.files).to_dict(), _config(other.files).to_dict()
    keys = ["model_type"]
    if ours["model_type"] == theirs["model_type"]:
        keys = sorted(ours.keys() | theirs.keys())
    # What it does not know by default is a remark of whoever wrote the file.
    known = set(auto_class("AutoConfig").for_model(ours["model_type"]).to_dict())
    return [
        f"{key}: {ours.get(key)!r} in {first.name}, {theirs.get(key)!r} in {other.name}"
        for key in keys
        if key in known
        and _counts(key)
        and key not in first.per_layer
        and key not in other.per_layer
        and _plain(ours.get(key)) != _plain(theirs.get(key))
    ]


def _effective(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config could change what is computed."""
    return {key: _plain(value) for key, value in config.items() if _counts(key)}


def _counts(key: str) -> bool:
    return key not in WITHOUT_EFFECT and not key.startswith("_") and "drop" not in key


def _plain(value: Any) -> Any:
    """A value without what only one version of transformers writes: the old name of a rope type."""
    if isinstance(value, Mapping):
        kept = {key: _plain(inner) for key, inner in value.items() if inner is not None}
        return {k: v for k, v in kept.items() if k != "type" or "rope_type" not in kept}
    return value
