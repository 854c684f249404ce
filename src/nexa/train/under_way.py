"""A training under way: the loop with its bar, its checkpoints, and how it ends when told to.

A signal ends it after the step under way: a checkpoint is written first, and the message says
from which step the same command goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from nexa.core.errors import TrainingError
from nexa.core.events import emit, progress
from nexa.core.interrupts import Interrupted, deferring
from nexa.core.store import require_space
from nexa.train import guards, optim, resume
from nexa.train.batches import steps
from nexa.train.checkpoint import RunState
from nexa.train.executor import Executor
from nexa.train.keeper import Keeper
from nexa.train.loop import StepRecord, train
from nexa.train.rows import TrainingRows
from nexa.train.spec import Resolved, TrainSpec


@dataclass
class UnderWay:
    """One training: what it is made of, and the steps that it has behind it."""

    spec: TrainSpec
    data: TrainingRows
    executor: Executor
    resolved: Resolved
    facts: dict[str, str]
    keeper: Keeper | None
    records: list[StepRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = optim.optimizer(self.spec.optimizer, self.executor.adapters())

    def begin(self, found: RunState | None, folder: Path) -> None:
        """Go back to a checkpoint, if there is one, and see that all that follows has room.

        `folder` is where the result will be written.

        Raises:
            StorageError: it has not.
        """
        count = sum(p.numel() for p in self.executor.adapters())
        if self.keeper is None:
            require_space(folder, 4 * count, "the trained weights")
            return
        if found is not None:
            self.records = resume.restore(found, self.executor.adapters(), self.optimizer)
            self.keeper.resumed(found.step)
            total = self.resolved.total_steps
            place = str(self.keeper.kept[-1])
            emit("train.resumed", step=found.step, total=total, path=place)
        self.keeper.make_room(count, self.spec.optimizer.name, result_bytes=4 * count)

    @contextlib.contextmanager
    def given_up_for_good(self) -> Iterator[None]:
        """Remove the checkpoints if a guard stops the block: they all lead to the same stop."""
        try:
            yield
        except TrainingError:
            if self.keeper is not None:
                self.keeper.clear()
            raise

    def to_the_end(self) -> list[StepRecord]:
        """All steps that are left; returns the records of all, those before a kill included.

        Raises:
            TrainingError: a guard stopped it.
            Interrupted: a signal asked it to end.
        """
        with deferring() as stop:
            for record in self._steps():
                if stop.asked:
                    self._stop(stop.asked)
                if self.keeper is not None and self.keeper.due(
                    record.step, self.resolved.total_steps
                ):
                    self._save()
            if stop.asked:
                self._stop(stop.asked)
        return self.records

    def _save(self) -> None:
        if self.keeper is not None:
            parameters = self.executor.adapters()
            self.keeper.save(
                resume.snapshot(self.records, parameters, self.optimizer, self.resolved, self.facts)
            )

    def _stop(self, signal_number: int) -> NoReturn:
        """Save the step that was just done, and end."""
        self._save()
        raise Interrupted(signal_number, found=self._kept(), fix=self._way_on())

    def _kept(self) -> str:
        kept = self.keeper.newest if self.keeper is not None else None
        done = f"step {len(self.records)} of {self.resolved.total_steps} was done"
        return f"{done}, step {kept} is kept" if kept else f"{done}, nothing of it is kept"

    def _way_on(self) -> str:
        kept = self.keeper.newest if self.keeper is not None else None
        where = f"goes on from step {kept}" if kept else "begins anew"
        return f"the same command, or nexa resume: it {where}"

    def _steps(self) -> Iterator[StepRecord]:
        """Run the loop and tell how it goes: a bar, and a line at the end of each epoch."""
        spec, resolved, total = self.spec, self.resolved, self.resolved.total_steps
        done = len(self.records)
        plan = steps(
            self.data.rows,
            rows_per_step=spec.rows_per_step,
            total_steps=total,
            micro_tokens=resolved.micro_tokens,
            seed=spec.seed,
            padded=resolved.layout == "padded",
            start=done,
        )
        loop = train(
            self.executor,
            plan,
            self.optimizer,
            optim.schedule(spec.scheduler, lr=spec.optimizer.lr, total_steps=total),
            max_grad_norm=spec.optimizer.max_grad_norm,
            seed=spec.seed,
        )
        before = guards.samples(self.executor.adapters())
        begin = time.monotonic()
        with progress("training", total, "steps") as bar:
            bar.done = done
            for record in loop:
                if record.step == 1:
                    guards.check_moved(before, guards.samples(self.executor.adapters()))
                now = time.monotonic()
                speed = round(record.tokens / (now - begin))
                bar.advance(loss=round(record.loss, 4), lr=record.lr, tokens_per_s=speed)
                self.records.append(record)
                self._tell_epoch(record)
                yield record
                begin = time.monotonic()

    def _tell_epoch(self, record: StepRecord) -> None:
        """The mean loss at an epoch's end, steps before a kill included."""
        resolved = self.resolved
        if record.step != resolved.total_steps and record.step % resolved.steps_per_epoch:
            return
        loss = epoch_losses([r for r in self.records if r.epoch == record.epoch])[-1]
        epochs = -(-resolved.total_steps // resolved.steps_per_epoch)
        emit("train.epoch", epoch=record.epoch, epochs=epochs, loss=loss, lr=record.lr)


def epoch_losses(records: list[StepRecord]) -> list[float]:
    """The mean loss of each epoch, over label tokens."""
    nats: dict[int, float] = defaultdict(float)
    tokens: dict[int, int] = defaultdict(int)
    for record in records:
        nats[record.epoch] += record.loss * record.label_tokens
        tokens[record.epoch] += record.label_tokens
    return [nats[epoch] / tokens[epoch] for epoch in nats]
