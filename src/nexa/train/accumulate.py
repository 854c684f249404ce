"""The gradients of one optimiser step, in as many passes as memory asks for.

A step's rows go through the model in batches of at most `micro_tokens` tokens, the longest rows
first, and their gradients add up. Where a batch is too large for the memory, or would be by what
is counted before, the gradients are dropped, `micro_tokens` is halved, and the same step is done
again: it learns from the same rows, in more and smaller passes. Where single rows are too large,
activations are computed twice instead of kept; after that there is nothing left but to say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nexa.core.allocator import in_use_bytes
from nexa.core.errors import CapacityError
from nexa.core.events import emit
from nexa.train.batches import Batch, Cut, Step
from nexa.train.executor import Executor
from nexa.train.memory import MemoryModel, model_for
from nexa.train.spec import Resolved, TrainSpec

# How torch says that memory could not be had; it has no class of its own for the processor.
NO_MEMORY = ("not enough memory", "allocate memory", "out of memory", "bad_alloc")
# What a first pass may correct the count by. Beyond that something else was measured with it.
CORRECTIONS = (0.5, 4.0)


@dataclass
class Accumulation:
    """How the steps of a run are cut into passes, and how that changed.

    `halvings` has what changed, in the order of the steps, also what an earlier part of the run,
    or the run that this one repeats, had to change: it is done again at the same step.
    """

    cut: Cut
    memory: MemoryModel | None = None
    limit_bytes: int | None = None  # what the process may take
    halvings: tuple[Mapping[str, Any], ...] = ()
    checkpointing: bool = False

    @classmethod
    def of(cls, spec: TrainSpec, resolved: Resolved, executor: Executor) -> Accumulation:
        """The accumulation of a run, with its choices as they were resolved."""
        memory = model_for(spec, executor, resolved.precision)
        cut = Cut(resolved.micro_tokens, memory.padded, resolved.prefix > 0)
        return cls(cut, memory, spec.memory_limit, tuple(resolved.halvings))

    @property
    def micro_tokens(self) -> int:
        """Tokens that a pass holds at most, as it is now."""
        return self.cut.micro_tokens

    def run(self, executor: Executor, step: Step) -> float:
        """Forward and backward of all of a step's batches.

        Leaves the gradients of the step's mean loss (over its label tokens) in the parameters.

        Returns:
            The summed loss.

        Raises:
            CapacityError: not even one row at a time fits, with checkpointing where the model can.
        """
        self._repeat(executor, step)
        randomness = torch.get_rng_state()
        while True:
            batches = self.settle(executor, step)
            loss_sum, why = self._tried(executor, batches, step.label_tokens)
            if why is None:
                return loss_sum
            for parameter in executor.adapters():
                parameter.grad = None
            torch.cuda.empty_cache()  # does nothing where no GPU was used
            torch.set_rng_state(randomness)  # dropout, if any, as in the first attempt
            self._shrink(executor, step, batches, why)

    def settle(self, executor: Executor, step: Step) -> tuple[Batch, ...]:
        """A step's batches, as small as the limit asks for.

        Raises:
            CapacityError: not even one row at a time is below it.
        """
        while True:
            batches = self.batches(step)
            why = self._too_large(batches)
            if why is None:
                return batches
            self._shrink(executor, step, batches, why)

    def batches(self, step: Step) -> tuple[Batch, ...]:
        """A step's batches as they are cut now."""
        return self.cut.batches(step.learned) if step.learned else step.batches

    def _repeat(self, executor: Executor, step: Step) -> None:
        """Take over what was changed before this step, or at it, by an earlier run."""
        for change in self.halvings:
            if change["step"] > step.index + 1:
                break
            self.cut = replace(self.cut, micro_tokens=min(change["to"], self.micro_tokens))
            if change.get("checkpointing") and not self.checkpointing:
                self._checkpoint(executor)

    def _too_large(self, batches: Sequence[Batch]) -> str | None:
        """Why the largest of these passes is not tried, if its count is above the limit."""
        if self.memory is None or self.limit_bytes is None:
            return None
        told = max(self.memory.peak_bytes(b, checkpointing=self.checkpointing) for b in batches)
        if told <= self.limit_bytes:
            return None
        return f"{told / 1e9:.2f} GB would be taken, {self.limit_bytes / 1e9:.2f} GB are allowed"

    def _tried(
        self, executor: Executor, batches: Sequence[Batch], label_tokens: int
    ) -> tuple[float, str | None]:
        """All passes of a step: the summed loss, or why memory did not do for them.

        The error ends here, for its traceback holds the pass's tensors.
        """
        loss_sum = 0.0
        try:
            for batch in batches:
                loss_sum += self._pass(executor, batch, label_tokens)
        except (RuntimeError, MemoryError) as error:
            why = lack_of_memory(error)
            if why is None:
                raise
            return 0.0, why
        return loss_sum, None

    def _pass(self, executor: Executor, batch: Batch, label_tokens: int) -> float:
        memory = self._to_correct(executor)
        before = in_use_bytes() if memory is not None else 0
        loss, _ = executor.forward_loss(batch)
        if memory is not None:
            self.memory = _corrected(memory, batch, in_use_bytes() - before)
        (loss / label_tokens).backward()
        return loss.item()

    def _to_correct(self, executor: Executor) -> MemoryModel | None:
        """The count, if it is asked for anything and was not yet compared with a pass."""
        is_told = all(p.device.type == "cpu" for p in executor.adapters())  # by the C library
        if self.limit_bytes is None or self.memory is None or self.checkpointing or not is_told:
            return None
        return self.memory if self.memory.correction == 1.0 else None

    def _shrink(self, executor: Executor, step: Step, batches: Sequence[Batch], why: str) -> None:
        """Halve until the largest pass is smaller; then checkpoint; then give up.

        Raises:
            CapacityError: nothing is left to try.
        """
        before = self.micro_tokens
        largest = max(map(_rows, batches))
        while largest > 1 and step.learned and max(map(_rows, self.batches(step))) >= largest:
            self.cut = replace(self.cut, micro_tokens=self.micro_tokens // 2)
        if self.micro_tokens < before:
            self._record(step, before, why)
            emit(
                "note",
                text=f"memory is short at step {step.index + 1}: {why}; "
                f"{self.micro_tokens} tokens a pass instead of {before} from here on, "
                f"still {step.rows} rows a step",
            )
        elif not self.checkpointing and self._checkpoint(executor):
            self._record(step, before, why)
            emit(
                "note",
                text=f"memory is short at step {step.index + 1}: {why}; one row a pass, and "
                f"activations are computed twice instead of kept (slower), still {step.rows} rows "
                "a step",
            )
        else:
            out = "" if self.checkpointing else "out"
            raise CapacityError(
                "the memory does not hold one row of the training",
                found=f"step {step.index + 1}, one row a pass with{out} checkpointing: {why}",
                fix="data.max_length: shorter rows; training.method: qlora; a smaller model; or "
                "more memory (training.memory_limit, if it is set)",
            )

    def _checkpoint(self, executor: Executor) -> bool:
        """Compute activations twice from here on; whether the model can."""
        executor.checkpointing = True
        self.checkpointing = executor.checkpointing
        return self.checkpointing

    def _record(self, step: Step, before: int, why: str) -> None:
        change = {"step": step.index + 1, "from": before, "to": self.micro_tokens, "why": why}
        more = {"checkpointing": True} if self.checkpointing else {}
        self.halvings = (*self.halvings, {**change, **more})


def lack_of_memory(error: BaseException) -> str | None:
    """What says that memory could not be had: the error, or one that it was raised from."""
    link: BaseException | None = error
    while link is not None:
        text = (str(link) or type(link).__name__).splitlines()[0]
        lacks = isinstance(link, MemoryError | torch.OutOfMemoryError)
        if lacks or any(word in text.lower() for word in NO_MEMORY):
            return text
        link = link.__cause__
    return None


def _corrected(memory: MemoryModel, batch: Batch, kept_bytes: int) -> MemoryModel:
    """The count, scaled to what a pass kept; as it was where the C library does not tell."""
    if kept_bytes <= 0:
        return memory
    low, high = CORRECTIONS
    share = min(high, max(low, kept_bytes / memory.pass_bytes(batch)))
    return replace(memory, correction=share)


def _rows(batch: Batch) -> int:
    return len(batch.lengths) - bool(batch.prefix)
