"""Carry a plan out: every tensor of the child computed from the parents' and put in its place.

The parents' files are mapped, the child's are written tensor by tensor, and the arithmetic goes
through tensors in blocks. So what is in memory is one result for each thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from nexa.core.events import Progress, progress
from nexa.core.hardware import usable_cores
from nexa.lm.safetensors_files import SafetensorsWriter, Slot
from nexa.weights.merge_models.methods import combine
from nexa.weights.merge_models.plan import Plan, Source, Task
from nexa.weights.tensors import StoredWeights, model_weights

FLOAT_BYTES = 4
# What the results under way may take together; a larger one is made alone.
UNDER_WAY_BYTES = 256 << 20
TASK = "merging models"


def execute(
    plan: Plan, out: Path, *, dtype: str, limit_bytes: int, threads: int | None = None
) -> None:
    """Write the child's weights into `out`: float32 rounded once to `dtype`.

    The bytes do not depend on the number of threads (None: as many as there are cores).

    Raises:
        ModelError: a parent's weights cannot be read or combined; names file or tensor.
        StorageError: no space.
    """
    kind: torch.dtype = getattr(torch, dtype)
    parents = Parents(plan)
    tasks = sorted(plan.tasks, key=lambda task: task.name)
    slots = [Slot(task.name, kind, task.shape) for task in tasks]
    writer = SafetensorsWriter(out, slots, limit_bytes=limit_bytes, durable=False)
    largest_first = sorted(tasks, key=lambda task: -prod(task.shape))

    def make(task: Task) -> float:
        writer.write(task.name, merged(task, parents))
        return kind.itemsize * prod(task.shape) / 1e6

    with progress(TASK, writer.size_bytes / 1e6, "MB") as bar, writer, _one_core_each():
        _in_threads(make, largest_first, parents, threads or usable_cores(), bar)


def merged(task: Task, parents: Parents) -> Tensor:
    """One tensor of the child in float32."""
    tensors = [parents.tensor(source, task) for source in task.sources]
    base = None if task.base is None else parents.tensor(task.base, task)
    return combine(task.method, tensors, base, task.options, name=task.name)


class Parents:
    """The tensors that go in, as they are stored; an embedding's rows in the child's order."""

    def __init__(self, plan: Plan) -> None:
        self._weights: Sequence[StoredWeights] = [
            model_weights(model.folder) for model in plan.models
        ]
        self._rows: Mapping[int, Tensor] = {
            model: torch.tensor(rows) for model, rows in plan.rows.items()
        }

    def tensor(self, source: Source, task: Task) -> Tensor:
        """One tensor in the type it is stored in: mapped, or a copy where rows move."""
        stored = self._weights[source.model].stored(source.name)
        rows = self._rows.get(source.model) if task.vocabulary else None
        return stored if rows is None else stored.index_select(0, rows)

    def cost_bytes(self, task: Task) -> int:
        """What a task takes while it is computed: the result, and copies of what is reordered."""
        sources = (*task.sources, *([task.base] if task.base else []))
        copies = sum(source.model in self._rows for source in sources) if task.vocabulary else 0
        return (1 + copies) * FLOAT_BYTES * prod(task.shape)


def _in_threads(
    make: Callable[[Task], float],
    tasks: Sequence[Task],
    parents: Parents,
    threads: int,
    bar: Progress,
) -> None:
    """`make` every task, no more at once than there is room for; what it returns is progress.

    Nothing waits in a queue: an interrupt or an error ends it as soon as the tasks under way do.
    """
    under_way: dict[Future[float], int] = {}

    def finish_one() -> None:
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            del under_way[future]
            bar.advance(future.result())

    with ThreadPoolExecutor(threads, initializer=_take_one_core) as pool:
        for task in tasks:
            cost = parents.cost_bytes(task)
            while under_way and (
                len(under_way) >= threads or sum(under_way.values()) + cost > UNDER_WAY_BYTES
            ):
                finish_one()
            under_way[pool.submit(make, task)] = cost
        while under_way:
            finish_one()


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Torch's own threads would be one team for every thread of ours: put back what they were."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _take_one_core() -> None:
    torch.set_num_threads(1)
