"""LoRA adapters on linear layers, and PEFT's own file format for them.

A layer's output becomes `x W^T + scale * (x A^T) B^T` with `scale = alpha / rank`; A and B are
float32 whatever the model's dtype. Attaching overrides the layer's `forward` and nothing else:
the module tree, its names and its `state_dict` stay as they were, and detaching removes every
trace. What is written is read by plain `peft.PeftModel.from_pretrained`, and the other way round.

Source: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import linear
from transformers import PreTrainedModel

from nexa.core.errors import ModelError, nearest
from nexa.core.records import ModelRef
from nexa.core.store import write_atomic

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # how PEFT names a module of the model it wraps

# What Nexa writes and reads: PEFT's defaults. An adapter that has any of these set otherwise is
# something else than plain LoRA and is refused.
PLAIN_LORA: dict[str, Any] = {
    "alpha_pattern": {},
    "bias": "none",
    "fan_in_fan_out": False,
    "layers_to_transform": None,
    "modules_to_save": None,
    "peft_type": "LORA",
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}


@dataclass(frozen=True)
class LoraSpec:
    """What an adapter is: its rank, its strength, its dropout and the layers that carry it."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0  # of the adapter's input, while training
    # all-linear: every nn.Linear but the output head; or the ends of module names.
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    rslora: bool = False  # scaled by alpha / sqrt(rank); Kalajdzievski 2023, arXiv:2312.03732
    dora: bool = False  # each row's magnitude is learned apart; Liu et al. 2024, arXiv:2402.09353
    plus_ratio: float | None = None  # LoRA+: B's rate over A's; Hayou et al. 2024, arXiv:2402.12354

    @property
    def scale(self) -> float:
        """What the product B A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclass
class Adapter:
    """The two matrices of one layer: A `[rank, in]`, B `[out, rank]`, float32."""

    layer: nn.Linear
    a: nn.Parameter
    b: nn.Parameter


@dataclass
class AttachedLora:
    """An adapter on a model: its parameters, and the way to take it off again."""

    model: PreTrainedModel
    spec: LoraSpec
    adapters: dict[str, Adapter]
    _were_trained: list[nn.Parameter] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A and B of every layer, in the model's own order."""
        return [p for adapter in self.adapters.values() for p in (adapter.a, adapter.b)]

    @property
    def names(self) -> list[str]:
        """The parameters' names in PEFT's files, in the same order."""
        return [f"{PREFIX}{name}.lora_{side}.weight" for name in self.adapters for side in "AB"]

    def state(self) -> dict[str, Tensor]:
        """A copy of the matrices under PEFT's names, float32 on the CPU."""
        return {
            f"{PREFIX}{name}.lora_{side}.weight": p.detach().to("cpu", torch.float32, copy=True)
            for name, adapter in self.adapters.items()
            for side, p in (("A", adapter.a), ("B", adapter.b))
        }

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model, for the length of a block."""
        self._take_off()
        try:
            yield
        finally:
            self._put_on()

    def detach(self) -> None:
        """Leave the model exactly as it was before."""
        self._take_off()
        for parameter in self._were_trained:
            parameter.requires_grad_(True)
        self._were_trained.clear()

    def _put_on(self) -> None:
        for adapter in self.adapters.values():
            # nn.Module.__call__ looks `forward` up on the instance first.
            adapter.layer.__dict__["forward"] = _forward(adapter, self.spec)

    def _take_off(self) -> None:
        for adapter in self.adapters.values():
            adapter.layer.__dict__.pop("forward", None)


def attach(model: PreTrainedModel, spec: LoraSpec, seed: int) -> AttachedLora:
    """Put a fresh adapter on `model` and freeze the model itself.

    A is drawn as PEFT draws it, kaiming-uniform with a = sqrt(5), which is uniform in
    +-1 / sqrt(in); each layer's from a generator of its own, so that no layer's start depends on
    which others are there. B is zero: the model answers as before.

    Raises:
        ModelError: no layer, or a layer that is already adapted; names the nearest module.
    """
    adapters = {}
    for name, layer in target_layers(model, spec.target_modules).items():
        generator = torch.Generator().manual_seed(_layer_seed(seed, name))
        bound = 1 / math.sqrt(layer.in_features)
        a = torch.empty(spec.rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        b = torch.zeros(layer.out_features, spec.rank)
        adapters[name] = _adapter(layer, a, b, trained=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    return _attached(model, spec, adapters, trained)


def load(model: PreTrainedModel, folder: Path) -> AttachedLora:
    """Put the adapter of a PEFT folder on `model`, for inference.

    Raises:
        ModelError: the folder is no plain LoRA adapter, or not one of this model.
    """
    spec, tensors = read(folder)
    adapters = {}
    for name in module_names(tensors):
        layer = dict(model.named_modules()).get(name)
        a, b = (tensors[f"{PREFIX}{name}.lora_{side}.weight"] for side in "AB")
        if not isinstance(layer, nn.Linear) or layer.weight.shape != (b.shape[0], a.shape[1]):
            raise ModelError(
                f"the adapter in {folder} does not fit this model",
                found=f"it has {b.shape[0]} x {a.shape[1]} for {name}, the model has {layer}",
                fix="load it on the model that it was trained from",
            )
        adapters[name] = _adapter(layer, a, b, trained=False)
    return _attached(model, spec, adapters, [])


def _adapter(layer: nn.Linear, a: Tensor, b: Tensor, *, trained: bool) -> Adapter:
    device = layer.weight.device
    pair = (nn.Parameter(x.to(device, torch.float32), requires_grad=trained) for x in (a, b))
    return Adapter(layer, *pair)


def _attached(
    model: PreTrainedModel, spec: LoraSpec, adapters: dict[str, Adapter], frozen: list[nn.Parameter]
) -> AttachedLora:
    taken = [name for name, adapter in adapters.items() if "forward" in adapter.layer.__dict__]
    if taken:
        raise ModelError("this model carries an adapter already", found=taken[0])
    lora = AttachedLora(model, spec, adapters, frozen)
    lora._put_on()
    return lora


def target_layers(
    model: PreTrainedModel, targets: Literal["all-linear"] | tuple[str, ...]
) -> dict[str, nn.Linear]:
    """The layers that `targets` names, in the model's order.

    A name fits a module as in PEFT: it is the module's whole name or its last parts.

    Raises:
        ModelError: a target that fits no linear layer; says the nearest one.
    """
    head = model.get_output_embeddings()
    every = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    if targets == "all-linear":
        return every
    for target in targets:
        if not any(_fits(name, target) for name in every):
            endings = sorted({name.rsplit(".", 1)[-1] for name in every})
            near = nearest(target, endings)
            raise ModelError(
                f"no linear layer is named {target!r}",
                found=", ".join(endings) or "no linear layer at all",
                fix=f"target_modules: [{near}]" if near else "target_modules: all-linear",
            )
    return {n: m for n, m in every.items() if any(_fits(n, target) for target in targets)}


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _layer_seed(seed: int, name: str) -> int:
    return int.from_bytes(
        hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big", signed=True
    )


# -- The product ---------------------------------------------------------------------------------


def _forward(adapter: Adapter, spec: LoraSpec) -> Callable[[Tensor], Tensor]:
    """What the adapted layer computes."""
    layer = adapter.layer

    def forward(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        dropped = drop(flat, spec.dropout) if spec.dropout and layer.training else None
        out: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]
            flat, dropped, layer.weight, layer.bias, adapter.a, adapter.b, spec.scale
        )
        return out.view(*x.shape[:-1], -1)

    return forward


class _LoraProduct(torch.autograd.Function):
    """`x W^T + bias + scale * (d A^T) B^T` as one product, `[x | d A^T] [W | scale B]^T`.

    `d` is x after dropout (None: x itself); both are `[T, in]`. One product adds the update in the
    float32 accumulator and rounds once; added to an already rounded `x W^T` in bfloat16, an update
    below half a unit in the last place vanishes, and with it early learning (docs/log.md).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        dtype = weight.dtype
        source = (x if dropped is None else dropped).to(dtype)
        a, b = a.to(dtype), (b * scale).to(dtype)
        low = source @ a.T
        wide = torch.cat([x.to(dtype), low], 1)
        ctx.save_for_backward(source, weight, a, b, low)
        ctx.scale, ctx.dtype, ctx.dropped = scale, x.dtype, dropped is not None
        return linear(wide, torch.cat([weight, b], 1), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        source, weight, a, b, low = ctx.saved_tensors
        g_low = g @ b
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = g @ weight
            if ctx.dropped:
                grad_dropped = (g_low @ a).to(ctx.dtype)
            else:
                grad_x.addmm_(g_low, a)
            grad_x = grad_x.to(ctx.dtype)
        grad_a = (g_low.T @ source).float()
        grad_b = (g.T @ low).float().mul_(ctx.scale)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None


def delta(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """What an adapter adds to its layer's weight: `scale * B A`, float32 `[out, in]`."""
    return torch.matmul(b.float(), a.float()).mul_(scale)


# -- Files ---------------------------------------------------------------------------------------


def write(folder: Path, state: Mapping[str, Tensor], spec: LoraSpec, base: ModelRef) -> None:
    """Write an adapter as PEFT does: weights and configuration, the same bytes for the same state.

    `state` is what `AttachedLora.state` returns.
    """
    tensors = {name: tensor.contiguous() for name, tensor in sorted(state.items())}
    write_atomic(folder / WEIGHTS, to_safetensors(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG, json.dumps(peft_config(state, spec, base), indent=2).encode())


def peft_config(state: Mapping[str, Tensor], spec: LoraSpec, base: ModelRef) -> dict[str, Any]:
    """The content of `adapter_config.json`."""
    targets: list[str] | tuple[str, ...]
    if spec.target_modules == "all-linear":
        targets = sorted({name.rsplit(".", 1)[-1] for name in module_names(state)})
    else:
        targets = spec.target_modules
    config = {
        **PLAIN_LORA,
        "base_model_name_or_path": base.name,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "r": spec.rank,
        "target_modules": list(targets),
        "task_type": "CAUSAL_LM",
    }
    return dict(sorted(config.items()))


def read(folder: Path) -> tuple[LoraSpec, dict[str, Tensor]]:
    """An adapter folder in PEFT's format, written by Nexa or by PEFT.

    Raises:
        ModelError: no adapter there, a pickle, a broken file, or more than plain LoRA (DoRA,
            rank patterns, trained biases...), named.
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
        spec = LoraSpec(
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=config.get("lora_dropout", 0.0),
            target_modules=_targets(config["target_modules"]),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"cannot read the adapter in {folder}", found=f"{type(error).__name__}: {error}"
        ) from error
    _check_plain(folder, config, tensors)
    return spec, tensors


def _targets(value: Any) -> Literal["all-linear"] | tuple[str, ...]:
    if value == "all-linear":
        return "all-linear"
    return (value,) if isinstance(value, str) else tuple(sorted(value))


def _check_plain(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    other = [
        f"{key}: {config[key]}"
        for key, plain in PLAIN_LORA.items()
        if key in config and config[key] != plain and (config[key] or plain)
    ]
    expected = {
        f"{PREFIX}{name}.lora_{side}.weight" for name in module_names(tensors) for side in "AB"
    }
    other += sorted(set(tensors) ^ expected)[:3]
    if other or not tensors:
        raise ModelError(
            f"the adapter in {folder} is not plain LoRA",
            found=", ".join(other) or "no tensors",
            fix="merge it with the tool that made it, and use the merged model",
        )


def module_names(state: Mapping[str, Any]) -> list[str]:
    """The adapted modules' names, in order."""
    names = (key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in state)
    return list(dict.fromkeys(name for name in names if name))
