"""The folder in which rows wait: gone at its end, and after a kill by whoever makes the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from nexa.core.store import storage_error

PREFIX = "nexa-prepare-"


class ScratchFolder:
    """A new folder in `parent`, or among the system's temporary ones; `remove` ends it.

    Its maker holds it with a lock, which the system lets go when the process ends, however it
    ends. So a folder that can be locked is nobody's, and is removed.

    Raises:
        StorageError: no space or no permission.
    """

    def __init__(self, parent: Path | None) -> None:
        place = parent or Path(tempfile.gettempdir())
        try:
            place.mkdir(parents=True, exist_ok=True)
            outer = os.open(place, os.O_RDONLY)
            try:
                # Between a folder's making and its locking nobody may look.
                fcntl.flock(outer, fcntl.LOCK_EX)
                if parent is not None:
                    _sweep(parent)
                self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
                self._held = os.open(self.path, os.O_RDONLY)
                fcntl.flock(self._held, fcntl.LOCK_EX)
            finally:
                os.close(outer)
        except OSError as error:
            raise storage_error(place, error) from error

    def remove(self) -> None:
        """Let it go, with all that it holds; a second time does nothing."""
        if self._held >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
            self._held = -1


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
