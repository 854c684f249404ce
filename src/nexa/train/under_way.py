"""A training under way: the loop with its bar, its checkpoints, and how it ends.

It ends after its last step, or sooner with the weights so far: when the validation loss gets no
better, when time or money is used up. A loss that runs away takes it back to a checkpoint. A
signal ends it after the step under way: a checkpoint is written first, and the message says from
which step the same command goes on.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from nexa.core.errors import TrainingError
from nexa.core.events import Progress, emit, progress
from nexa.core.interrupts import Interrupted, Stop, deferring
from nexa.core.store import require_space
from nexa.train import guards, optim, resume, spikes, stopping
from nexa.train.accumulate import Accumulation
from nexa.train.batches import steps
from nexa.train.checkpoint import RunState
from nexa.train.executor import Executor
from nexa.train.keeper import Keeper
from nexa.train.loop import StepRecord, train
from nexa.train.pace import Pace
from nexa.train.rows import TrainingRows
from nexa.train.spec import Resolved, TrainSpec
from nexa.train.spikes import Astray, Rollback
from nexa.train.stopping import Watch
from nexa.train.validation import validation_loss


@dataclass
class UnderWay:
    """One training: what it is made of, and the steps that it has behind it."""

    spec: TrainSpec
    data: TrainingRows
    executor: Executor
    resolved: Resolved
    facts: dict[str, str]
    keeper: Keeper | None
    watch: Watch = field(default_factory=Watch)
    records: list[StepRecord] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    best: list[Tensor] = field(default_factory=list)  # the parameters at `best_step`, copied
    stopped: str | None = None  # why it ended before its last step

    def __post_init__(self) -> None:
        adapter = self.spec.adapter
        self.optimizer = optim.optimizer(
            self.spec.optimizer,
            self.executor.adapters(),
            self.executor.names(),
            adapter.plus_ratio if adapter else None,
        )
        self.accumulation = Accumulation.of(self.spec, self.resolved, self.executor)
        config = self.executor.config
        self.pace = Pace(self.spec, self.resolved, self.data.rows, config, self.watch)

    @property
    def best_step(self) -> int | None:
        """The step whose weights are the result, if they are chosen by their validation loss."""
        return stopping.best_step(self.records) if self.spec.select == "best" else None

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
            self._restore(found)
            self.watch.before_s += found.history["seconds"]
            self.rollbacks = [Rollback(**rollback) for rollback in found.history["rollbacks"]]
            self.keeper.resumed(found.step)
            total = self.resolved.total_steps
            place = str(self.keeper.kept[-1])
            emit("train.resumed", step=found.step, total=total, path=place)
        selects = self.spec.select == "best"
        name = self.spec.optimizer.name
        self.keeper.make_room(count, name, result_bytes=4 * count, best=selects)

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

        The weights are then the result: the best ones, where they are selected.

        Raises:
            TrainingError: a guard stopped it.
            Interrupted: a signal asked it to end.
        """
        total = self.resolved.total_steps
        with deferring() as stop:
            with progress("training", total, "steps") as bar:
                bar.done = len(self.records)
                while not self._ended():
                    try:
                        self._walk(bar, stop)
                    except Astray as error:
                        self._go_back(error)
                        bar.done = len(self.records)
            if stop.asked:
                self._stop(stop.asked)
        self._settle_halvings()
        self._tell_end()
        self._take_best()
        return self.records

    # -- steps -------------------------------------------------------------------------------

    def _walk(self, bar: Progress, stop: Stop) -> None:
        """Steps until the training ends, with what belongs after each.

        Raises:
            Astray: it has lost its way.
            Interrupted: a signal asked it to end.
        """
        self._check_losses()  # a signal may have left it at the very step that shows it
        before = guards.samples(self.executor.adapters())
        self.pace.begin()
        for record in self._steps():
            if record.step == 1:
                guards.check_moved(before, guards.samples(self.executor.adapters()))
            timed = replace(record, seconds=self.pace.stepped())
            self.records.append(self._measured(timed))
            bar.advance(**self.pace.told(self.records[-1]))
            self._tell_epoch(record)
            if stop.asked:
                self._stop(stop.asked)
            self._check_losses()
            if self._ended():
                return
            self._save_if_due(record.step)
            self.pace.begin()

    def _steps(self) -> Iterator[StepRecord]:
        """The loop, from the step after the last that is done."""
        spec, resolved, total = self.spec, self.resolved, self.resolved.total_steps
        plan = steps(
            self.data.rows,
            rows_per_step=spec.rows_per_step,
            total_steps=total,
            micro_tokens=self.accumulation.micro_tokens,
            seed=spec.seed,
            padded=resolved.layout == "padded",
            share_prefix=resolved.prefix > 0,
            start=len(self.records),
        )
        rollbacks = len(self.rollbacks)
        peak = spec.optimizer.lr * spikes.rate_factor(rollbacks)
        loop = train(
            self.executor,
            plan,
            self.optimizer,
            optim.schedule(spec.scheduler, lr=peak, total_steps=total),
            accumulate=self.accumulation,
            max_grad_norm=spec.optimizer.max_grad_norm,
            seed=spec.seed,
        )
        return (replace(record, rolled_back=rollbacks) for record in loop)

    def _measured(self, record: StepRecord) -> StepRecord:
        """The record with its validation loss, where it is time; the best weights are copied."""
        step, every = record.step, self.resolved.validate_every
        if every is None or (step % every and step != self.resolved.total_steps):
            return record
        loss = validation_loss(
            self.executor,
            self.data.validation,
            micro_tokens=self.accumulation.micro_tokens,
            padded=self.resolved.layout == "padded",
        )
        emit("train.validation", step=step, loss=loss)
        if not math.isfinite(loss):
            raise Astray(
                "training stopped: the validation loss is not a number",
                found=f"after step {step}",
                fix="lower optimizer.lr, or set training.precision: float32",
            )
        record = replace(record, validation_loss=loss)
        if self.spec.select == "best" and stopping.best_step([*self.records, record]) == step:
            self.best = [p.detach().clone() for p in self.executor.adapters()]
        return record

    def _ended(self) -> bool:
        """Whether no step is to follow; settles why, if the last one is not done."""
        done, again = len(self.records), self.spec.again
        if done == self.resolved.total_steps:
            return True
        if done and self.stopped is None:
            limit = stopping.limit_reached(self.spec.limits, self.watch.seconds)
            if again is not None:  # time and money ran out at another moment then
                limit = "as the run that is done again" if done == again.last_step else None
            early = stopping.too_long_without(self.records, self.spec.early_stopping)
            if early or limit:
                self.stopped = f"after step {done} of {self.resolved.total_steps}: {early or limit}"
        return self.stopped is not None

    def _tell_end(self) -> None:
        """If it ended before its last step: keep what it has until it is sealed, and say why."""
        if self.stopped is not None:
            self._save()
            emit("note", text=f"the training ends {self.stopped}")

    @torch.no_grad()
    def _take_best(self) -> None:
        """Put the selected weights in place of the last ones."""
        for parameter, value in zip(self.executor.adapters(), self.best, strict=False):
            parameter.copy_(value)

    # -- going back --------------------------------------------------------------------------

    def _check_losses(self) -> None:
        spikes.check_losses([record.loss for record in self.records])

    def _go_back(self, error: Astray) -> None:
        """Return to the newest checkpoint that is known to be good, and take smaller steps.

        Raises:
            TrainingError: there is none, or it was done too often.
        """
        seen, why = len(self.records), str(error.found)
        good = spikes.last_good([record.loss for record in self.records])
        found = None
        if self.keeper is not None and len(self.rollbacks) < spikes.ROLLBACKS:
            found = self.keeper.before(good)
        if found is None:
            before = [str(rollback) for rollback in self.rollbacks]
            told = [f"{error.found}", *(before or ["there is no good checkpoint to go back to"])]
            raise TrainingError(error.what, found="\n".join(told), fix=error.fix) from error
        rollback = Rollback(seen, found.step, why)
        self.rollbacks.append(rollback)
        self._restore(found)
        for parameter in self.executor.adapters():
            parameter.grad = None
        emit("train.rolled_back", step=seen, to=found.step, why=why)
        emit("note", text=str(rollback))

    def _restore(self, found: RunState) -> None:
        self.best = [found.best[name] for name in sorted(found.best)]
        self.records = resume.restore(found, self.executor.adapters(), self.optimizer)

    # -- checkpoints -------------------------------------------------------------------------

    def _save_if_due(self, step: int) -> None:
        """Write a checkpoint at its time, unless the losses look as if the weights were bad."""
        if self.keeper is None or not self.keeper.due(step, self.resolved.total_steps):
            return
        if not spikes.high_losses([record.loss for record in self.records]):
            self._save()

    def _save(self) -> None:
        if self.keeper is None:
            return
        self._settle_halvings()
        self.keeper.save(
            resume.snapshot(
                self.records,
                self.executor.adapters(),
                self.optimizer,
                self.resolved,
                self.facts,
                history=self._history(),
                best=self.best,
            )
        )

    def _settle_halvings(self) -> None:
        """What memory asked for on the way belongs to the run's choices."""
        halvings = tuple(dict(change) for change in self.accumulation.halvings)
        self.resolved = replace(self.resolved, halvings=halvings)

    def _history(self) -> dict[str, Any]:
        rollbacks = [vars(rollback) for rollback in self.rollbacks]
        return {"seconds": self.watch.seconds, "rollbacks": rollbacks}

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

    # -- what is told ------------------------------------------------------------------------

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
