"""Where the checkpoints of a training are, and their copies in a second place.

    <scratch>/checkpoints/RECIPE/step-NNNNNN/     by the fingerprint of spec and dataset
    <durable>/run_state/RECIPE/step-NNNNNN/       if durable storage is outside the project

The recipe, not the run, names them: whoever asks for the same training goes on from them
(docs/decisions/011-checkpoints-belong-to-the-recipe.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import IntegrityError, NexaError, StorageError, UsageError
from nexa.core.events import emit
from nexa.core.store import storage_error
from nexa.core.tiers import Tiers
from nexa.train import checkpoint
from nexa.train.checkpoint import step_of


@dataclass(frozen=True)
class RunCheckpoints:
    """The checkpoints of one recipe."""

    tiers: Tiers
    recipe: str

    @property
    def folder(self) -> Path:
        """Where the training writes them."""
        return self.tiers.scratch / "checkpoints" / self.recipe[:32]

    @property
    def has_second_place(self) -> bool:
        """Whether durable storage outlives the project's folder."""
        if not self.tiers.durable_is_local:
            return True
        return not Path(self.tiers.durable_place("")).is_relative_to(self.tiers.root)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from writing here, and bring what the second place has.

        Raises:
            UsageError: another process trains by the same recipe.
        """
        lock = self.folder.with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        except OSError as error:
            raise storage_error(lock, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    "the same training is under way in another process",
                    found=f"it writes its checkpoints to {self.folder}",
                    fix="wait for it: what it makes will be reused",
                ) from error
            if self.has_second_place:
                self._fetch()
            yield

    def commit(self, place: Path) -> None:
        """Copy a checkpoint to the second place, and remove what training has removed here.

        Raises:
            StorageError: it cannot be written.
        """
        files = {path.name: path for path in place.iterdir()}
        self.tiers.commit(files, f"{self._durable}/{place.name}")
        here = {path.name for path in checkpoint.checkpoints(self.folder)}
        for name in self.tiers.committed(self._durable):
            if name not in here:
                self.tiers.remove(f"{self._durable}/{name}")

    def empty(self) -> None:
        """Remove them all: the trained checkpoint is sealed and committed.

        A second place that cannot be reached is told; nothing is lost by it.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another recipe has checkpoints there
            self.folder.parent.rmdir()
        if self.has_second_place:
            try:
                self.tiers.remove(self._durable)
            except StorageError as error:
                emit("note", text=f"checkpoints are left in durable storage: {error.what}")

    @property
    def _durable(self) -> str:
        return f"run_state/{self.recipe[:32]}"

    def _fetch(self) -> None:
        """Bring the second place's newest whole checkpoint, if none here is as new."""
        names = sorted(self.tiers.committed(self._durable), key=step_of, reverse=True)
        for name in names:
            newer = [path for path in self._here() if step_of(path.name) >= step_of(name)]
            if any(_is_whole(path) for path in newer):
                return
            aside = self.folder / f".{name}.{uuid.uuid4().hex}"
            try:
                self.tiers.fetch(f"{self._durable}/{name}", aside)
                checkpoint.check(aside)
            except NexaError as error:
                shutil.rmtree(aside, ignore_errors=True)
                emit("note", text=f"checkpoint passed over: {error.what}")
                continue
            shutil.rmtree(self.folder / name, ignore_errors=True)
            aside.rename(self.folder / name)
            emit("note", text=f"{name} was brought from {self.tiers.durable_place(self._durable)}")
            return

    def _here(self) -> list[Path]:
        return checkpoint.checkpoints(self.folder)


def _is_whole(place: Path) -> bool:
    try:
        checkpoint.check(place)
    except IntegrityError:
        return False
    return True
