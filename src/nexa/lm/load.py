"""Model files -> a model and its tokenizer, in this process.

A process keeps one model for each architecture and dtype: other weights of the same architecture
are copied into it in place, which is how base and tuned are evaluated with one load.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights

from nexa.core import events
from nexa.core.errors import ModelError, nearest
from nexa.core.identity import sha256_bytes
from nexa.lm.folder import weight_files
from nexa.lm.quantized import linear_layers, quantize_layer, quantize_linears
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import first_line, load_tokenizer, quiet, release_tokenizers, view

DTYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
# What a config says about names, dates and tokens: two that differ only here hold equal modules.
NOT_ARCHITECTURE = {
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "use_cache"),
}


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and the tokenizer it was trained with.

    The module is shared: after `load` of other weights of the same architecture and dtype it holds
    those. `require_current` says whether it still holds these.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    files: ModelFiles
    dtype: str

    @property
    def positions(self) -> int | None:
        """How many tokens a text may have, where the config says so."""
        config = self.model.config.get_text_config()
        room: int | None = getattr(config, "max_position_embeddings", None)
        return room

    def require_current(self) -> None:
        """Refuse to go on with a module that holds another model's weights by now.

        Raises:
            ModelError: `load` has put other weights into it since.
        """
        slot = next((slot for slot in _slots.values() if slot.model is self.model), None)
        if slot is not None and slot.files.digest != self.files.digest:
            raise ModelError(
                f"the loaded module holds {slot.files.name} by now, not {self.files.name}",
                fix="load the model again before using it",
            )


@dataclass
class _Slot:
    """The one module of an architecture and dtype, and its own tensors by name."""

    model: PreTrainedModel
    tensors: dict[str, torch.Tensor]
    files: ModelFiles


_slots: dict[tuple[str, str], _Slot] = {}


def load(files: ModelFiles, *, dtype: str = "bfloat16") -> LoadedModel:
    """Load a model with transformers: SDPA attention, eval mode, on the CPU.

    Python code that the model brings is run if `files.trusted` says so, and never else.

    An adapter (`files.adapter`) is not put on: that is `lm.adapters.load`'s work, on top of this.
    The weights are read from disk on every call, so a module that was trained in the meantime is
    itself again.

    Raises:
        ModelError: not a causal language model, an unknown dtype, or tensors that are missing,
            not the model's or of another shape: named.
    """
    if dtype not in DTYPES:
        raise ModelError(
            f"{dtype!r} is not a dtype to load a model in",
            found="known: " + ", ".join(DTYPES),
            fix=nearest(dtype, DTYPES),
        )
    with view(files) as folder, quiet():
        config = _config(folder, files)
        key = (f"{_architecture(config)} {files.trusted}", dtype)
        _require_tied_head(files, config)
        slot = _slots.get(key)
        if slot is not None and _fits(slot, files):
            _refill(slot, files)
            _take_token_ids(slot.model, config, folder)
        else:
            slot = _fresh(folder, files, config, dtype)
            _slots[key] = slot
    slot.model.name_or_path = slot.model.config._name_or_path = files.name
    slot.model.eval()
    tokenizer = load_tokenizer(files)
    return LoadedModel(slot.model, tokenizer, files, dtype)


def load_quantized(files: ModelFiles, *, dtype: str, double: bool = True) -> PreTrainedModel:
    """A model of the caller's own whose linear layers are held in four bits, but for its head.

    Each weight is read, rounded to `dtype` and packed before the next is read, so that the whole
    model is never in memory. Where its files name or cut their tensors in another way than its
    modules do, transformers has to put them together first; a note says so.

    Raises:
        ModelError: as `load`, or there is no linear layer.
    """
    model = _skeleton(files, dtype=dtype)
    tensors = _places(model, files)
    if tensors is None:
        events.emit(
            "note", text=f"{files.name} is in memory as a whole once: its files have other names"
        )
        model = load(files, dtype=dtype).model
        release_models()  # for this module is not the base's any more
        quantize_linears(model, double=double)
        return model
    layers = linear_layers(model)
    linears = {f"{name}.weight": name for name in layers}
    for layer in layers.values():
        # Room that is given back in pieces would be filled by what packing needs on the way.
        layer.weight = torch.nn.Parameter(layer.weight.to("meta"), requires_grad=False)
    with torch.no_grad():
        for name, tensor in stored_tensors(files):
            if name in linears:
                quantize_layer(model, linears[name], tensor, double=double)
            elif name in tensors:  # the head of a tied model is not
                tensors[name].copy_(tensor)
    return model


def stored_tensors(files: ModelFiles) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model's files one by one, as they are stored.

    Raises:
        ModelError: a file cannot be read.
    """
    for file in _open(files):
        for name in file.keys():  # noqa: SIM118  # it is no dictionary
            yield name, file.get_tensor(name)


def release() -> None:
    """Forget every loaded model and tokenizer: see `release_models`."""
    release_tokenizers()
    release_models()


def release_models() -> None:
    """Forget every loaded model; the memory is free once the callers have let go of theirs."""
    _slots.clear()
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA was never used


def _skeleton(files: ModelFiles, *, dtype: str) -> PreTrainedModel:
    """The model's modules in eval mode, for who reads the weights into them himself.

    Room for the weights is set aside and not touched: memory is taken as it is filled. What is
    computed from the config alone (rotary frequencies) is there.

    Raises:
        ModelError: as `load`, but for the tensors.
    """
    with view(files) as folder, quiet():
        config = _config(folder, files)
        _require_tied_head(files, config)
        try:
            with no_init_weights():
                model: PreTrainedModel = AutoModelForCausalLM.from_config(
                    config,
                    dtype=DTYPES[dtype],
                    attn_implementation="sdpa",
                    trust_remote_code=files.trusted,
                )
        except (ValueError, OSError, KeyError) as error:
            raise ModelError(f"cannot load {files.name}", found=first_line(error)) from error
        _take_token_ids(model, config, folder)
    model.name_or_path = model.config._name_or_path = files.name
    model.tie_weights()  # what transformers would have done while it initialised
    model.eval()
    return model


def _places(model: PreTrainedModel, files: ModelFiles) -> dict[str, torch.Tensor] | None:
    """Where each stored tensor goes in a module; None if names or shapes are not the module's."""
    found = {**dict(model.named_parameters()), **_saved_buffers(model)}
    return found if _fit(found, model, files) else None


def _config(folder: Path, files: ModelFiles) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=files.trusted
        )
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(
            f"transformers cannot read the config of {files.name}", found=first_line(error)
        ) from error
    return config


def _architecture(config: PretrainedConfig) -> str:
    told = config.to_dict()
    return sha256_bytes(
        repr(sorted((k, repr(v)) for k, v in told.items() if k not in NOT_ARCHITECTURE)).encode()
    )


def _fresh(folder: Path, files: ModelFiles, config: PretrainedConfig, dtype: str) -> _Slot:
    """Let transformers build the module and read the weights."""
    model: PreTrainedModel
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=files.trusted,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told by name below, instead of in a long table
            output_loading_info=True,
        )
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load {files.name}", found=first_line(error)) from error
    model, report = loaded
    _require_whole(files, report)
    tensors = {**dict(model.named_parameters()), **_saved_buffers(model)}
    events.emit("model.loaded", name=files.name, digest=files.digest, dtype=dtype)
    return _Slot(model, tensors, files)


def _require_whole(files: ModelFiles, report: Mapping[str, Any]) -> None:
    """Every tensor of the model must come from the files, and every tensor of the files go in."""
    problems = {
        "missing": sorted(report["missing_keys"]),
        "not the model's": sorted(report["unexpected_keys"]),
        "of another shape": sorted(str(key[0]) for key in report["mismatched_keys"]),
    }
    told = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if told:
        raise ModelError(
            f"the weights of {files.name} do not fit its config.json", found="\n".join(told)
        )


def _saved_buffers(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Tensors that are saved with a model and are no parameters, under any name."""
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    saved = model.state_dict()
    return {name: t for name, t in saved.items() if t.data_ptr() not in parameters}


def _fits(slot: _Slot, files: ModelFiles) -> bool:
    """Whether these files have exactly the module's tensors, and the module still is as it was."""
    now = {name for name, _ in slot.model.named_parameters()}
    # An adapter left on a layer (`lm.adapters`) overrides its forward: such a model is not a base.
    bare = not any("forward" in module.__dict__ for module in slot.model.modules())
    return bare and now <= set(slot.tensors) and _fit(slot.tensors, slot.model, files)


def _fit(tensors: Mapping[str, torch.Tensor], model: PreTrainedModel, files: ModelFiles) -> bool:
    """Whether the files have exactly these tensors, by name and shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    theirs = {name: shape for file in _open(files) for name, shape in _shapes(file)}
    if model.config.tie_word_embeddings:
        theirs.pop(HEAD, None)
    return theirs == shapes


def _refill(slot: _Slot, files: ModelFiles) -> None:
    """Copy other weights into the module that is there."""
    slot.files = files
    with torch.no_grad():
        for name, tensor in stored_tensors(files):
            if name in slot.tensors:
                slot.tensors[name].copy_(tensor)
    events.emit("model.refilled", name=files.name, digest=files.digest)


def _take_token_ids(model: PreTrainedModel, config: PretrainedConfig, folder: Path) -> None:
    """What else of a model may differ under one architecture: where its answers begin and end."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(config, name, None))
    has_own = (folder / "generation_config.json").exists()
    model.generation_config = (
        GenerationConfig.from_pretrained(folder)
        if has_own
        else GenerationConfig.from_model_config(config)
    )


def _require_tied_head(files: ModelFiles, config: PretrainedConfig) -> None:
    """An output head beside embeddings that are tied to it must be the same numbers.

    transformers would take one of the two in silence; a merge that untied them makes such files.
    """
    if not getattr(config, "tie_word_embeddings", False):  # a model of pictures has no such field
        return
    found: dict[str, torch.Tensor] = {}
    for file in _open(files):
        for name in (HEAD, EMBEDDING):
            if name in file.keys():  # noqa: SIM118
                found[name] = file.get_tensor(name)
    if len(found) == 2 and not torch.equal(found[HEAD], found[EMBEDDING]):
        raise ModelError(
            f"{files.name} says its head and embeddings are tied, and brings two that differ",
            found=f"{HEAD}, {EMBEDDING}",
            fix="set tie_word_embeddings: false in its config.json, or save it without the head",
        )


def _open(files: ModelFiles) -> Iterator[Any]:
    for name in weight_files(files.files):
        path = files.folder / name
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path}", found=str(error)) from error


def _shapes(file: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in file.keys():  # noqa: SIM118
        yield name, tuple(file.get_slice(name).get_shape())


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
