"""The arithmetic of a merge, in float32, each adapter tensor exactly once.

A weight W becomes `W + scale B A`; of DoRA, each row of that gets the length that was learned.

Names: PEFT calls the adapter's tensors `base_model.model.<module>.lora_A.weight` where the base
model's file has `<module>.weight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nexa.core.errors import ParityError
from nexa.lm.adapters import PREFIX, LoraSpec, delta, module_names, row_norms, tensor_names
from nexa.weights.tensors import Weights


@dataclass(frozen=True)
class Change:
    """What an adapter does to one weight: A `[r, in]`, B `[out, r]` and, of DoRA, m `[out]`."""

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    def merged(self, weight: Tensor) -> Tensor:
        """The weight with the adapter in it, `[out, in]`, float32."""
        changed = weight + delta(self.a, self.b, self.scale)
        if self.magnitude is None:
            return changed
        norms = row_norms(weight, self.a, self.b, self.scale)
        return changed.mul_((self.magnitude / norms)[:, None])

    def live(self, x_TI: Tensor, weight: Tensor, out_TO: Tensor) -> Tensor:
        """The product `x W^T` with the adapter run beside it, as training ran it, `[T, out]`."""
        changed = torch.addmm(out_TO, x_TI @ self.a.float().T, self.b.float().T, alpha=self.scale)
        if self.magnitude is None:
            return changed
        return changed.mul_(self.magnitude / row_norms(weight, self.a, self.b, self.scale))


def read_changes(tensors: Mapping[str, Tensor], spec: LoraSpec) -> dict[str, Change]:
    """An adapter's tensors (`lm.adapters.read`) by the name of the weight that they change."""
    changes = {}
    for module in module_names(tensors):
        a, b, *magnitude = (tensors[name] for name in tensor_names([module], spec))
        changes[f"{module}.weight"] = Change(a, b, spec.scale_of(module), *magnitude)
    return changes


class MergedWeights:
    """The base with its adapter: every weight of the merged model, computed when it is asked for.

    `tied` says which weights take another's values when the config ties embeddings
    (`{"lm_head.weight": "model.embed_tokens.weight"}`). When the adapter changes one of such a
    pair and not the other, both are written and `tie` is False.

    Raises:
        ParityError: an adapter tensor fits no weight of the base; names it.
    """

    def __init__(
        self, base: Weights, changes: Mapping[str, Change], *, tied: Mapping[str, str]
    ) -> None:
        self.base = base
        self.changes = dict(changes)
        self.tied = {head: of for head, of in tied.items() if of in base.names}
        for name, change in self.changes.items():
            self._check_fits(name, change)
        self.tie = bool(tied) and not any(_apart(self, head, of) for head, of in self.tied.items())
        self.names = _written(base, self.tied, tie=self.tie)

    def tensor(self, name: str) -> Tensor:
        """One merged weight in float32."""
        return self.pair(name)[1]

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """A weight before and after the merge: one and the same where the adapter has no part."""
        weight = self.base_tensor(name)
        change = self.changes.get(name)
        return weight, weight if change is None else change.merged(weight)

    def shape(self, name: str) -> tuple[int, ...]:
        """One weight's shape, which a merge does not change."""
        return self.base.shape(self.tied.get(name, name))

    def base_tensor(self, name: str) -> Tensor:
        """The same weight before the merge; a tied weight is its partner's."""
        return self.base.tensor(self.tied.get(name, name))

    def _check_fits(self, name: str, change: Change) -> None:
        adapter = f"{PREFIX}{name.removesuffix('.weight')}.lora_A.weight"
        if name not in self.base.names and name not in self.tied:
            raise _unused(adapter, f"the base has no weight {name}")
        has, changed = tuple(self.base_tensor(name).shape), (change.b.shape[0], change.a.shape[1])
        if has != changed:
            raise _unused(adapter, f"it changes {changed}, the base has {has}")


class TrainedWeights:
    """A model all of whose weights were trained, seen as a change of its base.

    Raises:
        ParityError: it does not have the base's weights; names one.
    """

    def __init__(self, trained: Weights, base: Weights, *, tied: Mapping[str, str]) -> None:
        self.trained, self.base = trained, base
        self.tied = {head: of for head, of in tied.items() if of in trained.names}
        strangers = sorted((set(base.names) ^ set(trained.names)) - set(self.tied))
        if strangers:
            side = "base" if strangers[0] in trained.names else "checkpoint"
            raise _unused(strangers[0], f"the {side} has no such weight")
        self.tie = bool(tied) and not any(_apart(self, head, of) for head, of in self.tied.items())
        self.names = _written(trained, self.tied, tie=self.tie)

    def tensor(self, name: str) -> Tensor:
        """One trained weight in float32; a tied weight that was not stored is its partner's."""
        return self.trained.tensor(name if name in self.trained.names else self.tied[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """One weight's shape."""
        return self.trained.shape(name if name in self.trained.names else self.tied[name])

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """A weight before and after training."""
        return self.base_tensor(name), self.tensor(name)

    def base_tensor(self, name: str) -> Tensor:
        """The same weight before training."""
        return self.base.tensor(self.tied.get(name, name))


Tuned = MergedWeights | TrainedWeights


def _apart(tuned: Tuned, head: str, of: str) -> bool:
    """Whether two weights that were tied have become different."""
    return not torch.equal(tuned.tensor(head), tuned.tensor(of))


def _written(weights: Weights, tied: Mapping[str, str], *, tie: bool) -> tuple[str, ...]:
    """The weights that belong in the file: a tied one only once."""
    names = set(weights.names) - set(tied) if tie else set(weights.names) | set(tied)
    return tuple(sorted(names))


def _unused(name: str, why: str) -> ParityError:
    return ParityError(
        f"cannot merge: the tensor {name} is not used",
        found=why,
        fix="the checkpoint was not trained on this model: give the base it names",
    )
