"""The layers of a model that may carry an adapter, and the weight of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from nexa.core.errors import ModelError, nearest
from nexa.lm.adapters.spec import Targets

if TYPE_CHECKING:  # the fused path starts its adapters here, and imports no transformers
    from transformers import PreTrainedModel


@runtime_checkable
class DenseLinear(Protocol):
    """A linear layer that keeps its weight in another form, and makes it when it is asked."""

    in_features: int
    out_features: int
    bias: Any  # a tensor or None
    training: bool

    def dense(self) -> Tensor:
        """The weight `[out, in]`, in the type that products are computed in."""
        ...


Layer = nn.Linear | DenseLinear


def frozen_weight(layer: Layer) -> Tensor:
    """The weight `[out, in]` of a layer that carries an adapter.

    Whoever needs it twice asks twice: a dense copy of a quantised weight is not to be kept.
    """
    return layer.dense() if isinstance(layer, DenseLinear) else layer.weight


def target_layers(model: PreTrainedModel, targets: Targets) -> dict[str, Layer]:
    """The layers of `model` that `targets` names, in the model's order: see `target_names`."""
    head = model.get_output_embeddings()
    modules = dict(model.named_modules())
    every = {n: m for n, m in modules.items() if isinstance(m, Layer) and m is not head}
    return {name: every[name] for name in target_names(list(every), modules, targets)}


def target_names(linear: Sequence[str], modules: Iterable[str], targets: Targets) -> list[str]:
    """Those of the `linear` layers that `targets` names, in their order, by PEFT's rules.

    A name in a tuple fits a module when it is the module's whole name or its last parts; one text
    is a regular expression that fits the whole name. `modules` are the names of all modules.

    Raises:
        ModelError: a target that fits no linear layer, with the nearest one; a pattern that fits
            something else than linear layers too.
    """
    if targets == "all-linear":
        return list(linear)
    if isinstance(targets, str):
        return _matching(modules, targets, linear)
    for target in targets:
        if not any(_ends(name, target) for name in linear):
            raise _no_layer(target, linear)
    return [name for name in linear if any(_ends(name, target) for target in targets)]


def _matching(modules: Iterable[str], pattern: str, linear: Sequence[str]) -> list[str]:
    """The layers whose whole names a regular expression fits."""
    try:
        named = [name for name in modules if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ModelError(
            f"target_modules is no regular expression: {pattern!r}",
            found=str(error),
            fix="give names as a list",
        ) from error
    if not named:
        raise _no_layer(pattern, linear)
    others = [name for name in named if name not in linear]
    if others:
        raise ModelError(
            f"target_modules {pattern!r} fits modules that cannot carry an adapter",
            found=", ".join(others[:3]),
            fix="linear layers can, but for the output head",
        )
    return named


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _no_layer(target: str, linear: Sequence[str]) -> ModelError:
    endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
    near = nearest(target, endings)
    return ModelError(
        f"no linear layer is named {target!r}",
        found=", ".join(endings) or "no linear layer at all",
        fix=f"target_modules: [{near}]" if near else "target_modules: all-linear",
    )
