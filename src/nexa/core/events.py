"""What happens, as it happens: one stream of events that every sink reads.

A step calls `emit` or walks a `progress`; it never prints. The run's log file, the terminal's
progress bars and any tracker are sinks of the same stream, so they cannot disagree.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa.core.errors import StorageError
from nexa.core.secrets import redact

Event = dict[str, Any]
Sink = Callable[[Event], None]

_sinks: ContextVar[tuple[Sink, ...]] = ContextVar("nexa_event_sinks", default=())


def emit(kind: str, **fields: Any) -> None:
    """Send one event to every sink; with no sink it costs nothing. `kind` is `layer.what`."""
    sinks = _sinks.get()
    if sinks:
        event: Event = {"t": round(time.time(), 3), "kind": kind, **fields}
        for sink in sinks:
            sink(event)


@contextlib.contextmanager
def listening(*sinks: Sink) -> Iterator[None]:
    """Add sinks for the length of a block."""
    token = _sinks.set(_sinks.get() + sinks)
    try:
        yield
    finally:
        _sinks.reset(token)


@dataclass
class Progress:
    """A task that is under way: `advance` it and the sinks hear how far it is."""

    task: str
    total: float | None
    unit: str
    done: float = 0
    fields: dict[str, Any] = field(default_factory=dict)

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Say that `amount` more units are done; `fields` are shown beside the bar."""
        self.done += amount
        self.fields.update(fields)
        emit("progress", task=self.task, done=self.done, total=self.total, unit=self.unit, **fields)


@contextlib.contextmanager
def progress(task: str, total: float | None = None, unit: str = "") -> Iterator[Progress]:
    """A block of work with a bar, which the block advances; the end is told however it comes."""
    bar = Progress(task, total, unit)
    emit("progress.start", task=task, total=total, unit=unit)
    try:
        yield bar
    finally:
        emit("progress.end", task=task, done=bar.done, total=total, unit=unit)


class EventLog:
    """The run's own record: one JSON line an event, appended at once, without secrets.

    Raises:
        StorageError: the log cannot be written; what is not logged did not happen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")

    def __call__(self, event: Event) -> None:
        """Append one event."""
        line = redact(json.dumps(event, ensure_ascii=False, default=str))
        with self._explained():
            self._file.write(line.encode(errors="backslashreplace") + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Flush to the disk itself and close."""
        if not self._file.closed:
            with self._explained():
                os.fsync(self._file.fileno())
                self._file.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"cannot write the run's log {self.path}: {error.strerror or error}",
                fix="free some space or mend the folder's permissions, then run it again",
            ) from error


def read_events(path: Path) -> list[Event]:
    """The events of a log; a torn last line (a killed run) is left out."""
    # By bytes: a torn line may end inside a character, and text may hold other line ends.
    events: list[Event] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events
