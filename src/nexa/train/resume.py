"""Going on from a checkpoint: whether it still fits, what is put back, what is written down.

The weights that a resumed run ends with are those of an unbroken one, bit for bit, as long as
every product is computed in the same way: same libraries, processor, threads, layout, precision.
What has changed is told, and nothing goes on unless the user says that unequal weights will do.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from nexa.core.errors import TrainingError
from nexa.core.events import emit
from nexa.core.hardware import Machine
from nexa.train.checkpoint import RunState
from nexa.train.loop import StepRecord
from nexa.train.spec import Resolved, TrainSpec, resolve_precision

# Choices that may not differ between the two parts of a run, and those that no flag overrides:
# with other rows or another length it is another run.
MUST_EQUAL = (
    *("precision", "threads", "executor", "layout", "head", "micro_tokens"),
    *("device", "attention", "kernels", "prefix"),
)
SAME_RUN = (
    *("rows", "validation_rows", "validate_every"),
    *("max_length", "total_steps", "steps_per_epoch", "warmup_steps"),
)


def facts(machine: Machine, mask_sha256: str) -> dict[str, str]:
    """What equal bytes depend on beside `Resolved`."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": machine.cpu,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "rows and masks": mask_sha256,
    }


def settle(
    spec: TrainSpec, found: RunState, fresh: Resolved, now: dict[str, str], folder: Path
) -> Resolved:
    """The choices that the run was begun with, if they can still be kept.

    `fresh` is what would be chosen now, `now` today's facts.

    Raises:
        TrainingError: something has changed; says what, and the ways on.
    """
    saved = _resolved(found.resolved)
    asked = replace(fresh, precision=resolve_precision(spec.precision))
    if spec.micro_tokens is None:
        asked = replace(asked, micro_tokens=saved.micro_tokens)
    other = [
        *_differences(asdict(saved), asdict(asked), SAME_RUN),
        *_differences(found.facts, now, ["rows and masks"]),
    ]
    if other:
        raise TrainingError(
            f"cannot go on from step {found.step}: it was another run",
            found="\n".join(other),
            fix=f"rm -r {folder}   then the run begins anew",
        )
    changed = [
        *_differences(asdict(saved), asdict(asked), MUST_EQUAL),
        *_differences(found.facts, now, [name for name in now if name != "rows and masks"]),
    ]
    if not changed:
        return saved
    if not spec.allow_inexact:
        raise TrainingError(
            f"cannot go on from step {found.step} and end with the same weights",
            found="\n".join(changed),
            fix=_ways_on(saved, asked, folder),
        )
    emit("note", text=f"going on inexactly from step {found.step}: {'; '.join(changed)}")
    inexact = (*saved.inexact, *(f"step {found.step}: {change}" for change in changed))
    return replace(asked, precision=saved.precision, halvings=saved.halvings, inexact=inexact)


def snapshot(
    records: Sequence[StepRecord],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    resolved: Resolved,
    facts: dict[str, str],
    *,
    history: Mapping[str, Any] | None = None,
    best: Sequence[Tensor] = (),
) -> RunState:
    """The run as it is now. Tensors are not copied: write it before the next step."""
    return RunState(
        step=records[-1].step,
        trained=_numbered(parameters),
        optimizer=_remembered(optimizer),
        records=[asdict(record) for record in records],
        resolved=asdict(resolved),
        facts=facts,
        history=dict(history or {}),
        best=_numbered(best),
    )


@torch.no_grad()
def restore(
    state: RunState, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> list[StepRecord]:
    """Put everything back; returns the records of the steps done.

    Takes the tensors out of `state`: nobody needs them twice in memory.

    Raises:
        TrainingError: the checkpoint's tensors are not those of this model.
    """
    shapes = [tuple(parameter.shape) for parameter in parameters]
    if [tuple(tensor.shape) for _, tensor in sorted(state.trained.items())] != shapes:
        raise TrainingError(
            f"cannot go on from step {state.step}: its tensors are not this model's",
            found=f"{len(state.trained)} tensors, {len(shapes)} are trained here",
        )
    for parameter, name in zip(parameters, sorted(state.trained), strict=True):
        parameter.copy_(state.trained.pop(name))
    _remember(state.optimizer, optimizer)
    return [StepRecord(**record) for record in state.records]


def _numbered(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{i:05d}": tensor.detach().contiguous() for i, tensor in enumerate(tensors)}


def _remembered(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors of their own; a plain number becomes one of int64.

    Not by its `state_dict`, whose way back makes every tensor float32, an 8-bit one too.
    """
    kept: dict[str, Tensor] = {}
    places: set[int] = set()
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, int):
                kept[f"{index:05d}.{name}"] = torch.tensor(value)
            if isinstance(value, Tensor):
                shared = value.data_ptr() in places  # as a table that all parameters look up
                places.add(value.data_ptr())
                kept[f"{index:05d}.{name}"] = value.clone() if shared else value.contiguous()
    return kept


def _remember(kept: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """The opposite of `_remembered`; takes the tensors out of `kept`."""
    optimizer.state.clear()
    parameters = _parameters(optimizer)
    for whole_name in sorted(kept):
        index, _, name = whole_name.partition(".")
        parameter, value = parameters[int(index)], kept.pop(whole_name)
        is_number = value.dtype == torch.int64 and value.ndim == 0
        # torch keeps its count of steps on the processor, unless the step is fused on a device.
        stays = name == "step" and not optimizer.defaults.get("fused")
        there = value if stays else value.to(parameter.device)
        optimizer.state[parameter][name] = int(value) if is_number else there


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What it moves, in its own order."""
    groups = [group["params"] for group in optimizer.param_groups]
    return list(itertools.chain.from_iterable(groups))


def _resolved(saved: dict[str, Any]) -> Resolved:
    tuples = {name: tuple(saved.get(name, ())) for name in ("inexact", "halvings")}
    return Resolved(**saved | tuples)


def _differences(then: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{name.replace('_', ' ')}: {then.get(name)} then, {now.get(name)} now"
        for name in names
        if then.get(name) != now.get(name)
    ]


def _ways_on(saved: Resolved, asked: Resolved, folder: Path) -> str:
    ways = [
        "--allow-inexact   goes on, and it is written into the checkpoint",
        f"rm -r {folder}   then the run begins anew",
    ]
    if saved.threads != asked.threads:
        ways.insert(0, f"OMP_NUM_THREADS={saved.threads} before the same command")
    return "\n".join(ways)
