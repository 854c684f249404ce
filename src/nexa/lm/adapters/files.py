"""Adapters as PEFT writes them: `adapter_model.safetensors` and `adapter_config.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.core.records import ModelRef
from nexa.core.store import write_atomic
from nexa.lm.adapters.spec import LoraSpec, Targets

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # how PEFT names a module of the model it wraps

# Settings of PEFT that Nexa leaves at their defaults, and writes.
LEFT_ALONE: dict[str, Any] = {
    "bias": "none",
    "fan_in_fan_out": False,
    "layers_to_transform": None,
    "modules_to_save": None,
    "peft_type": "LORA",
}
# Settings that make another thing of the same tensors: with another value than these, an adapter
# is not read. (layers_to_transform only says which layers carry tensors: they do or they do not.)
REFUSED_UNLESS: dict[str, Any] = {
    **{key: value for key, value in LEFT_ALONE.items() if key != "layers_to_transform"},
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "kasa_config": None,
    "layer_replication": None,
    "lora_bias": False,
    "monteclora_config": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_qalora": False,
}


def tensor_names(layers: Iterable[str], spec: LoraSpec) -> list[str]:
    """The names of an adapter's tensors in PEFT's files: of each layer A, B and, of DoRA, m."""
    ends = ["lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if spec.dora else [])]
    return [f"{PREFIX}{layer}.{end}" for layer in layers for end in ends]


def module_names(state: Mapping[str, Any]) -> list[str]:
    """The adapted modules' names, in order."""
    names = (key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in state)
    return list(dict.fromkeys(name for name in names if name))


def write(folder: Path, state: Mapping[str, Tensor], spec: LoraSpec, base: ModelRef) -> None:
    """Write an adapter as PEFT does: weights and configuration, the same bytes for the same state.

    `state` is what `AttachedLora.state` returns.
    """
    tensors = {name: tensor.contiguous() for name, tensor in sorted(state.items())}
    write_atomic(folder / WEIGHTS, to_safetensors(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG, json.dumps(peft_config(state, spec, base), indent=2).encode())


def peft_config(state: Mapping[str, Tensor], spec: LoraSpec, base: ModelRef) -> dict[str, Any]:
    """The content of `adapter_config.json`; LoRA+ is the optimiser's, and PEFT knows none."""
    config = {
        **LEFT_ALONE,
        "alpha_pattern": dict(spec.alpha_pattern),
        "base_model_name_or_path": base.name,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "r": spec.rank,
        "rank_pattern": dict(spec.rank_pattern),
        "target_modules": _written_targets(spec.target_modules, state),
        "task_type": "CAUSAL_LM",
        "use_dora": spec.dora,
        "use_rslora": spec.rslora,
    }
    return dict(sorted(config.items()))


def _written_targets(targets: Targets, state: Mapping[str, Tensor]) -> str | list[str]:
    if targets == "all-linear":  # PEFT too writes the layers that it found, never the word
        return sorted({name.rsplit(".", 1)[-1] for name in module_names(state)})
    return targets if isinstance(targets, str) else list(targets)


def read(folder: Path) -> tuple[LoraSpec, dict[str, Tensor]]:
    """An adapter folder in PEFT's format, written by Nexa or by PEFT: LoRA, rsLoRA or DoRA.

    Raises:
        ModelError: no adapter there, a pickle, a broken file, or something else than a change of
            linear layers' weights (trained biases, invocation tokens...), named.
    """
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").exists()
        raise ModelError(
            f"{folder} holds no {WEIGHTS}",
            found="adapter_model.bin, a pickle: it could run code when read" if pickled else None,
            fix="save the adapter with safe_serialization=True" if pickled else None,
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        spec = _spec(config)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, re.error) as error:
        raise ModelError(
            f"cannot read the adapter in {folder}", found=f"{type(error).__name__}: {error}"
        ) from error
    _check_kind(folder, config, spec, tensors)
    _check_ranks(folder, spec, tensors)
    return spec, tensors


def _spec(config: Mapping[str, Any]) -> LoraSpec:
    targets = config["target_modules"]
    ranks, alphas = (dict(config.get(f"{key}_pattern") or {}) for key in ("rank", "alpha"))
    for pattern in (*ranks, *alphas):
        re.compile(pattern)
    return LoraSpec(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        target_modules=targets if isinstance(targets, str) else tuple(sorted(targets)),
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        rank_pattern=ranks,
        alpha_pattern=alphas,
    )


def _check_kind(
    folder: Path, config: Mapping[str, Any], spec: LoraSpec, tensors: Mapping[str, Tensor]
) -> None:
    other = [
        f"{key}: {config[key]}"
        for key, plain in REFUSED_UNLESS.items()
        if key in config and config[key] != plain and (config[key] or plain)
    ]
    other += sorted(set(tensors) ^ set(tensor_names(module_names(tensors), spec)))[:3]
    if other or not tensors:
        raise ModelError(
            f"the adapter in {folder} is not plain LoRA, rsLoRA or DoRA",
            found=", ".join(other) or "no tensors",
            fix="merge it with the tool that made it, and use the merged model",
        )


def _check_ranks(folder: Path, spec: LoraSpec, tensors: Mapping[str, Tensor]) -> None:
    """The rank is part of the scale: a wrong one would change the answers without a word."""
    for layer in module_names(tensors):
        a, b, *_ = (tensors[name] for name in tensor_names([layer], spec))
        told, ranks = spec.rank_of(layer), (a.shape[0], b.shape[-1])
        if ranks != (told, told):
            raise ModelError(
                f"the adapter in {folder} has another rank than its {CONFIG} says",
                found=f"{layer}: {ranks[0]} and {ranks[1]}, said to be {told}",
                fix="take both files from the same training",
            )
