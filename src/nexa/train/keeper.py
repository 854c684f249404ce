"""When checkpoints are written, which are kept, and what becomes of them on a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.events import emit
from nexa.core.store import require_space
from nexa.train import checkpoint
from nexa.train.checkpoint import RunState


@dataclass
class Keeper:
    """The checkpoints of one run. The newest whole one is never given up for another.

    A checkpoint that finds no room is tried a second time after all older ones but the last are
    removed. If that fails too the run goes on, as long as there is a whole one to go back to, and
    each failure is told by a `note`; without one it ends with the StorageError.
    """

    folder: Path
    every: int  # steps
    keep: int = 2
    commit: Callable[[Path], None] | None = None  # takes a whole one to a second place
    write: Callable[[Path, RunState], Path] = checkpoint.save
    kept: list[Path] = field(default_factory=list)  # whole ones, oldest first

    @property
    def newest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return checkpoint.step_of(self.kept[-1].name) if self.kept else None

    def resumed(self, step: int) -> None:
        """Say that the checkpoint of this step was read and is whole: later ones are void."""
        there = reversed(checkpoint.checkpoints(self.folder))
        self.kept = [place for place in there if checkpoint.step_of(place.name) <= step]

    def before(self, step: int) -> RunState | None:
        """The newest regular checkpoint of at most this step; it is then the newest of all.

        One that a signal left is none: an unbroken run would not have it.
        """
        for place in reversed(self.kept):
            number = checkpoint.step_of(place.name)
            if number > step or number % self.every:
                continue
            try:
                found = checkpoint.read(place)
            except IntegrityError as error:
                emit("note", text=f"checkpoint passed over: {error.what} ({error.found})")
                continue
            self.resumed(number)
            return found
        return None

    def make_room(
        self, parameters: int, optimizer: str, result_bytes: int, *, best: bool = False
    ) -> None:
        """Check that all checkpoints that will stand at once, and the result, have room.

        Raises:
            StorageError: they have not.
        """
        checkpoint.sweep(self.folder)
        missing = max(1, self.keep + 1 - len(self.kept))  # the newest is there before one goes
        size = missing * checkpoint.size_bytes(parameters, optimizer, best=best)
        require_space(self.folder, size + result_bytes, f"{missing} checkpoints of the run")

    def due(self, step: int, total_steps: int) -> bool:
        """Whether a checkpoint belongs after this step; the last one ends in the result itself."""
        return step % self.every == 0 and step < total_steps

    def save(self, state: RunState) -> None:
        """Write a checkpoint, remove those that are too many, send it to the second place.

        Raises:
            StorageError: it could not be written, and there is none to go back to.
        """
        try:
            place = self._written(state)
        except StorageError as error:
            if not self.kept:
                raise
            text = f"no checkpoint of step {state.step}: {error.what}; step {self.newest} is kept"
            emit("note", text=text)
            return
        self.kept = self._newest_of([*(p for p in self.kept if p != place), place])
        self._remove_others()
        self._commit(place)

    def clear(self) -> None:
        """Remove every checkpoint: nothing will go on from them."""
        self.kept = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_of(self, places: list[Path]) -> list[Path]:
        """So many regular ones, and the very newest if a signal left it between two of them."""
        regular = [p for p in places if checkpoint.step_of(p.name) % self.every == 0]
        return [p for p in places if p in regular[-self.keep :] or p == places[-1]]

    def _written(self, state: RunState) -> Path:
        try:
            return self.write(self.folder, state)
        except StorageError:
            self.kept = self.kept[-1:]
            if not self._remove_others():
                raise
        return self.write(self.folder, state)

    def _remove_others(self) -> bool:
        """Remove all but the kept ones, damaged ones too; whether there were any."""
        others = [place for place in checkpoint.checkpoints(self.folder) if place not in self.kept]
        for place in others:
            shutil.rmtree(place, ignore_errors=True)
        return bool(others)

    def _commit(self, place: Path) -> None:
        if self.commit is None:
            return
        try:
            self.commit(place)
        except StorageError as error:
            emit("note", text=f"{place.name} is on this machine only: {error.what}")
