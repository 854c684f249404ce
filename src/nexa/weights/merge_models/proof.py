"""The proof that a merged folder is what the recipe says, and a model that works.

Numbers of every small tensor and rows of the large ones are computed again from the parents, by
the formulas as the papers write them (`formulas`), and compared with what lies on the disk. Then
the child and each parent read the same short texts, one layer in memory at a time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexa.core.errors import ModelError
from nexa.lm.folder import digests
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from nexa.weights.checks import Check, Parity
from nexa.weights.folder import config_differences
from nexa.weights.merge_models.execute import Parents
from nexa.weights.merge_models.formulas import DRAWN, Expected, Parts, expected
from nexa.weights.merge_models.plan import Plan, Task
from nexa.weights.merge_models.readings import Reading, read_models
from nexa.weights.merge_models.texts import text_checks
from nexa.weights.probes import probe_texts
from nexa.weights.tensors import StoredWeights, model_weights

SEED = 0
SMALL_NUMBERS = 1 << 16  # up to here a tensor is looked at as a whole
ROWS = 64  # of a larger one
# The angle of SLERP and the threshold of TIES take a look at all numbers of a tensor. So large ones
# are taken while they have no more than this together: 0.4 GB of memory for the largest.
WHOLE_NUMBERS = 1 << 25
WHOLE = ("slerp", "ties")
TEXT_TOKENS = 16  # of each text: every model has to read them
# Less than this of a parent's weights changed: its logits may well round to the same numbers.
CHANGED_SHARE = 1e-3


def prove(folder: Path, plan: Plan, *, dtype: str) -> Parity:
    """Compare a written folder with the plan that made it, and with its parents.

    Every check is made, also after one has failed: the list of failures is the diagnosis.
    """
    child = _files(folder, plan)
    sample = Sample(len(plan.models))
    checks = [
        *_config_checks(child, plan, dtype),
        *_stored_checks(child, plan, dtype),
        _recomputed(plan, model_weights(folder), sample),
        *text_checks(child, plan.models[plan.tokenizer]),
    ]
    tokenizer = load_tokenizer(plan.models[plan.tokenizer])
    texts = [text[:TEXT_TOKENS] for text in probe_texts(tokenizer)]
    facts: dict[str, Any] = {
        "dtype": dtype,
        "rounding": f"float32 to {dtype}, once, to nearest even",
        "prompts": len(texts),
        "tokens": sum(map(len, texts)),
        "sample": {"seed": SEED, "tensors": sample.tensors, "numbers": sample.numbers},
        "notes": list(plan.notes),
    }
    if all(check.passed for check in checks):
        # A folder whose tensors are not what they should be may not even load.
        found, losses = _reading_checks(child, plan, texts, sample)
        checks += found
        facts["cross_entropy_nats"] = losses
    return Parity(
        tuple(checks),
        facts,
        refusal="the merged model is not what its recipe says",
        fix="nothing was kept; for weights_are_numbers: another dtype; else report this with the "
        "recipe",
    )


def _files(folder: Path, plan: Plan) -> ModelFiles:
    trusted = plan.models[plan.tokenizer].trusted
    return ModelFiles(
        reference=str(folder),
        name="the merged model",
        origin="merge",
        folder=folder,
        files=digests(folder, trust_remote_code=trusted),
        trusted=trusted,
    )


# -- config and tensors: what is stored ----------------------------------------------------------


def _config_checks(child: ModelFiles, plan: Plan, dtype: str) -> Iterator[Check]:
    config = child.config
    stated = config.get("dtype")
    yield Check("dtype", stated == dtype, stated, dtype)
    changed = config_differences(config, plan.config)
    yield Check("config", not changed, changed or "equal", "equal to the plan's")


@dataclass
class Sample:
    """What was computed again, and how far each parent was from it: squares of differences."""

    parents: int
    tensors: int = 0
    numbers: int = 0
    squares: float = 0.0
    off: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.off = [0.0] * self.parents

    def add(self, task: Task, parts: Parts, found: Expected) -> None:
        """Take a tensor in."""
        self.tensors += 1
        self.numbers += found.values.numel()
        self.squares += float(found.values.square().sum())
        read = (*task.sources, *([task.base] if task.base else []))
        own = {
            source.model: tensor
            for source, tensor in zip(read, parts.all, strict=True)
            if source.name == task.name
        }
        for place in range(self.parents):
            off = math.inf
            if place in own:
                off = float((parts.wanted(own[place]).double() - found.values).square().sum())
            self.off[place] += off

    def changed(self, parent: int) -> float:
        """How much of a parent's weights the merge changed; infinity where they are others."""
        return math.sqrt(self.off[parent] / self.squares) if self.squares else 0.0


def _stored_checks(child: ModelFiles, plan: Plan, dtype: str) -> Iterator[Check]:
    stored = model_weights(child.folder)
    tasks = {task.name: task for task in plan.tasks}
    strangers = sorted(set(tasks) ^ set(stored.names))
    yield Check("tensor_names", not strangers, strangers[:3] or "equal", "equal to the plan's")
    both = [name for name in stored.names if name in tasks]
    reshaped = [name for name in both if stored.shape(name) != tasks[name].shape]
    yield Check("tensor_shapes", not reshaped, reshaped[:3] or "equal", "equal to the plan's")
    matrices = [name for name in both if tasks[name].vocabulary and len(tasks[name].shape) > 1]
    tied = {"tie": child.config.get("tie_word_embeddings"), "matrices": len(matrices)}
    wanted = {"tie": plan.tie, "matrices": 1 if plan.tie else 2}
    yield Check("tied_embeddings", tied == wanted, tied, wanted)
    wrong = [name for name in stored.names if not _is_numbers(stored.stored(name), dtype)]
    yield Check("weights_are_numbers", not wrong, wrong[:3] or "all", f"all finite {dtype}")


def _recomputed(plan: Plan, stored: StoredWeights, sample: Sample) -> Check:
    parents = Parents(plan)
    names = set(stored.names)
    there = [t for t in plan.tasks if t.name in names and stored.shape(t.name) == t.shape]
    unlike = [
        task.name
        for task in _chosen(there)
        if not _is_expected(task, parents, stored.stored(task.name), sample)
    ]
    return Check("tensors_recomputed", not unlike, unlike[:3] or "equal", "equal, rounded once")


def _is_numbers(tensor: Tensor, dtype: str) -> bool:
    if tensor.dtype is not getattr(torch, dtype):
        return False
    # The extremes are NaN if any number is; looking at each for itself takes forty times as long.
    return not tensor.numel() or bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


def _chosen(tasks: Sequence[Task]) -> list[Task]:
    """The tensors that are computed again: all, but of methods that look at all numbers a part."""
    order = random.Random(SEED).sample(tasks, len(tasks))
    # First those where rows are brought into another order: the embedding, and a head of its own.
    order.sort(key=lambda task: not task.vocabulary)
    chosen, room = [], WHOLE_NUMBERS
    for task in order:
        numbers = math.prod(task.shape)
        looked_through = numbers if numbers > SMALL_NUMBERS and task.method in WHOLE else 0
        if looked_through <= room:
            chosen.append(task)
            room -= looked_through
    return chosen


def _rows(task: Task) -> Tensor | None:
    """Which rows of a tensor are looked at; None for all of them."""
    if math.prod(task.shape) <= SMALL_NUMBERS or task.shape[0] <= ROWS:
        return None
    if task.method in DRAWN:  # one stream of random numbers, from the first row on
        return torch.arange(ROWS)
    chosen = random.Random(f"{SEED}/{task.name}").sample(range(task.shape[0]), ROWS)
    return torch.tensor(sorted(chosen))


def _is_expected(task: Task, parents: Parents, stored: Tensor, sample: Sample) -> bool:
    tensors = [parents.tensor(source, task) for source in task.sources]
    base = None if task.base is None else parents.tensor(task.base, task)
    parts = Parts(task.name, tensors, base, task.options, _rows(task))
    found = expected(task.method, parts)
    sample.add(task, parts, found)
    return found.holds(parts.wanted(stored))


# -- what it computes ----------------------------------------------------------------------------


def _reading_checks(
    child: ModelFiles, plan: Plan, texts: list[list[int]], sample: Sample
) -> tuple[list[Check], dict[str, Any]]:
    """Whether the child computes numbers, and not a parent's; and how well all of them guess."""
    parents = [(model, _rows_of(plan.rows, place)) for place, model in enumerate(plan.models)]
    begun, *rest = read_models([(child, None), *parents], texts)
    try:
        own = begun.result()
    except ModelError as error:
        return [Check("loads", False, f"{error.what}: {error.found}", "as config.json says")], {}
    others = [reading.result() for reading in rest]
    checks = [
        Check("loads", True, "yes", "as config.json says"),
        Check("logits_are_numbers", own.finite, "all" if own.finite else "not all", "all"),
        _unlike_parents(own, others, sample),
    ]
    return checks, {"child": own.nats, "parents": [reading.nats for reading in others]}


def _rows_of(rows: Mapping[int, Sequence[int]], place: int) -> Tensor | None:
    return torch.tensor(rows[place]) if place in rows else None


def _unlike_parents(own: Reading, others: Sequence[Reading], sample: Sample) -> Check:
    changes = [float((own.last_NV - other.last_NV).abs().max()) for other in others]
    alike = any(
        change == 0 and sample.changed(place) > CHANGED_SHARE
        for place, change in enumerate(changes)
    )
    limit = "above 0 for each parent whose weights the recipe changes"
    return Check("logits_unlike_parents", not alike, changes, limit)
