"""SIGINT and SIGTERM: one exception for both, raised at once or when the work can bear it.

`nexa train` is `stoppable`: either signal ends it as Ctrl-C does, so that its manifest is closed
whatever asks it to go. The training loop is `deferring`: the step under way is finished and a
checkpoint is written before it ends.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOOK_S = 0.2  # how long a wait goes on before signals are looked for
T = TypeVar("T")
Handler = Callable[[int, FrameType | None], Any]


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; `found` says what is kept, `fix` how to go on."""

    def __init__(
        self, number: int = signal.SIGINT, *, found: str | None = None, fix: str | None = None
    ) -> None:
        self.number = number
        self.found = found
        self.fix = fix
        super().__init__(self.reason)

    @property
    def exit_code(self) -> int:
        """130 for SIGINT and 143 for SIGTERM, as shells have it."""
        return 128 + self.number

    @property
    def reason(self) -> str:
        """Who ended it, for the manifest."""
        if self.number == signal.SIGINT:
            return "interrupted by the user"
        return f"ended by {signal.Signals(self.number).name}"


@dataclass
class Stop:
    """Whether the work was asked to end, and by which signal."""

    asked: int | None = None


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Interrupted` at once on either signal, for the length of a block."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handling(stop):
        yield


@contextlib.contextmanager
def deferring() -> Iterator[Stop]:
    """Only note the first signal, for the length of a block; a second SIGINT stops at once."""
    state = Stop()

    def note(number: int, _frame: FrameType | None) -> None:
        if state.asked is not None and number == signal.SIGINT:
            raise Interrupted(number)
        state.asked = state.asked or number

    with _handling(note):
        yield state


@contextlib.contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Put a handler in place of those that are there, and these back afterwards.

    Only the main thread may. A signal that the process was started to ignore (`nohup`, a shell's
    background job) stays ignored.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for changed, old in before.items():
            signal.signal(changed, old)


def awaited(future: Future[T], *, most_s: float = math.inf) -> T:
    """The result of a future that another thread works on; a signal ends the wait.

    `future.result()` sleeps on where the system gave the signal to another thread: only the main
    thread runs the handler, and nothing wakes it.

    Raises:
        TimeoutError: there is none after `most_s` seconds.
    """
    end = time.monotonic() + most_s
    while not future.done():
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no result after {most_s:g} s")
        wait([future], timeout=min(LOOK_S, left_s))
    return future.result()
