"""The step: a model that Nexa did not train, recorded as it was found.

The record stands in the place of a checkpoint and holds nothing that only training could know. An
adapter is then merged like any other (`merge_adapter.py`); a whole model is taken as it is
(`take.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nexa.core.errors import IntegrityError, ModelError, WeightsError
from nexa.core.events import emit
from nexa.core.identity import sha256_file, where
from nexa.core.records import AdoptedBody, Draft
from nexa.core.store import Store
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

# How an adapter may begin and still be a change of the base as its file holds it. PiSSA, OLoRA,
# CorDA and LoftQ take a part out of the base first: merged into the whole base it would be there
# twice.
PLAIN_STARTS: tuple[Any, ...] = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdoptSpec:
    """What was found, and what it is compared with."""

    base: ModelFiles
    """The model that an adapter is for, or that a whole one is compared with."""
    base_named_by: str
    """Where that name is from: --base-model, or a file."""
    found: Mapping[str, str]
    """File name -> sha256 of what is adopted."""
    whole: ModelFiles | None = None
    """The model itself, when it is a whole one."""
    adapter: Path | None = where(default=None)
    """The folder of the adapter, when it is one."""
    left_out: tuple[str, ...] = ()
    """The folder's other files."""
    trainer_step: int | None = None
    """The step that transformers' Trainer wrote beside it."""
    name: str = where(default="adopted")


def adopt(spec: AdoptSpec, *, store: Store) -> Draft[AdoptedBody]:
    """Record a model that Nexa did not train.

    The draft's files are the adapter's two; a whole model's are left to `take`. In
    adapter_config.json the base gets its public name, where a path of this machine stood.

    Raises:
        ModelError: not an adapter that can be merged, or not a change of its base; named.
        WeightsError: adapter tensors that are not numbers; named.
        TemplateError: the base has no chat template that can be trusted.
        IntegrityError: a file has changed since it was looked at.
    """
    template = ChatTemplate(load_tokenizer(spec.whole or spec.base))
    facts: dict[str, Any] = {"method": "full"}
    files: dict[str, bytes | Path] = {}
    if spec.whole is not None:
        facts["weights_sha256"] = spec.whole.digest
    elif spec.adapter is not None:
        facts, files = _adapter(spec, spec.adapter)
    else:
        raise ModelError("nothing to adopt: neither a whole model nor an adapter was given")
    body = AdoptedBody(
        base=spec.base.ref,
        base_named_by=spec.base_named_by,
        found=dict(spec.found),
        left_out=list(spec.left_out),
        trainer_step=spec.trainer_step,
        template_sha256=template.sha256,
        end_of_turn=list(template.end_of_turn),
        **facts,
    )
    return Draft("adopted", spec.name, body, files)


def _adapter(spec: AdoptSpec, folder: Path) -> tuple[dict[str, Any], dict[str, bytes | Path]]:
    """What an adapter's files say of it, and the files as they are published."""
    changed = [name for name, digest in spec.found.items() if sha256_file(folder / name) != digest]
    if changed:
        raise IntegrityError(
            f"{folder} was changed while it was read",
            found=", ".join(changed),
            fix="run the same command again",
        )
    lora, tensors = adapters.read(folder)
    config = json.loads((folder / adapters.CONFIG).read_bytes())
    if config.get("init_lora_weights") not in PLAIN_STARTS:
        raise ModelError(
            f"the adapter in {folder} is not a change of its base as that is published",
            found=f"init_lora_weights: {config['init_lora_weights']}",
            fix="convert it with PEFT: path_initial_model_for_weight_conversion",
        )
    wrong = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if wrong:
        raise WeightsError(
            f"the adapter in {folder} has weights that are not numbers", found=", ".join(wrong[:3])
        )
    facts = {
        "method": "lora",
        **_kind(lora, adapters.module_names(tensors)),
        "weights_sha256": spec.found[adapters.WEIGHTS],
    }
    return facts, {
        adapters.WEIGHTS: folder / adapters.WEIGHTS,
        adapters.CONFIG: _public_config(folder / adapters.CONFIG, config, spec.base),
    }


def _kind(lora: LoraSpec, layers: Sequence[str]) -> dict[str, Any]:
    """Its kind, its strength and its layers; where these differ, every rank and alpha there is."""
    ranks = sorted({lora.rank_of(layer) for layer in layers})
    alphas = sorted({lora.alpha_of(layer) for layer in layers})
    return {
        "variant": lora.variant,
        "rank": ranks[0] if len(ranks) == 1 else lora.rank,
        "ranks": ranks if len(ranks) > 1 else None,
        "alpha": alphas[0] if len(alphas) == 1 else lora.alpha,
        "alphas": alphas if len(alphas) > 1 else None,
        "target_modules": sorted({layer.rsplit(".", 1)[-1] for layer in layers}),
    }


def _public_config(path: Path, config: Mapping[str, Any], base: ModelFiles) -> bytes | Path:
    """adapter_config.json with the base under a name that others can look up, or know."""
    kind, _, rest = base.origin.partition(":")
    name = rest.partition("@")[0] if kind == "hub" else base.name
    told = config.get("base_model_name_or_path")
    if told == name:
        return path
    emit("note", text=f"adapter_config.json is published with the base {name} (it says {told})")
    public = {**config, "base_model_name_or_path": name}
    return (json.dumps(public, indent=2, ensure_ascii=False) + "\n").encode()
