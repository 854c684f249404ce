"""Processes that do parts at the same time, and what happens when one of them does not.

A worker is a fresh interpreter (never a fork: this process has threads) at the other end of a
socket. It ends when that closes, so it cannot outlive this process by more than a batch; Ctrl-C
reaches this process alone, which then ends its workers.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from nexa.core.errors import CapacityError, DataError, NexaError
from nexa.core.events import Event, emit, listening
from nexa.core.secrets import child_environment
from nexa.data.engine.parts import Part
from nexa.data.engine.stager import Done, Job, Stager

END_WAIT_S = 20
# One worker a core: what a library would start threads for is done by the other workers.
ALONE = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
START = "import sys; sys.path[:] = {path!r}; from {module} import main; main({handle})"


class Workers:
    """Some processes for the length of a block; at its end they are gone, however it ends."""

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._count = count
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._doing: dict[Connection, Part] = {}

    def __enter__(self) -> Workers:
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def read(self, parts: Iterable[Part], advance: Callable[[int], None]) -> Iterator[Done]:
        """What `Stager.read` makes of each part, in the order in which they are done.

        Raises:
            CapacityError: the system ended a worker.
            DataError: a worker ended by itself; names what it read.
            NexaError: whatever reading a part raises.
        """
        rest = iter(parts)
        for worker in self._processes:
            self._give(worker, rest)
        while self._doing:
            ready = wait(list(self._doing))
            for worker in [worker for worker in self._doing if worker in ready]:
                kind, told = self._heard(worker)
                if kind == "read":
                    advance(told)
                elif kind == "event":
                    emit(told.pop("kind"), **{k: v for k, v in told.items() if k != "t"})
                elif kind == "error":
                    raise told
                else:
                    self._give(worker, rest)
                    yield told

    def _start(self) -> None:
        here, there = Pipe()
        with there:
            code = START.format(path=sys.path, module=__name__, handle=there.fileno())
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                env={**child_environment(), **ALONE},
                pass_fds=[there.fileno()],
                process_group=0,  # a terminal's Ctrl-C is for this process alone
            )
        self._processes[here] = process
        with contextlib.suppress(ConnectionError):
            here.send(self._job)

    def _give(self, worker: Connection, parts: Iterator[Part]) -> None:
        """The next part; none is left for a worker that waits for ever then."""
        part = next(parts, None)
        if part is None:
            self._doing.pop(worker, None)
        else:
            self._doing[worker] = part
            with contextlib.suppress(ConnectionError):  # it is dead, and is found so below
                worker.send(part)

    def _heard(self, worker: Connection) -> tuple[str, Any]:
        try:
            told: tuple[str, Any] = worker.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended(worker) from error
        return told

    def _ended(self, worker: Connection) -> NexaError:
        process, place = self._processes[worker], self._doing[worker].place
        code = process.wait(END_WAIT_S)
        if code == -signal.SIGKILL:
            return CapacityError(
                "the system ended one of the processes that read the rows (SIGKILL)",
                found=f"at {place}; this is how a machine ends what it has no memory for",
                fix="free some memory, then run the same command again",
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DataError(f"one of the processes that read the rows died ({how})", found=place)

    def _end(self) -> None:
        for worker, process in self._processes.items():
            process.kill()
            worker.close()
        for process in self._processes.values():
            process.wait(END_WAIT_S)
        self._processes.clear()


def main(handle: int) -> None:
    """A worker's whole life, at the other end of the socket `handle`."""
    with Connection(handle) as parent:
        serve(parent)


def serve(parent: Connection) -> None:
    """Read parts as they are asked for, until nobody asks any more."""

    def hear(event: Event) -> None:
        if event["kind"] == "note":
            parent.send(("event", event))

    try:
        stager = Stager(parent.recv())
        _ = stager.template  # what it has to say of itself, this process's parent says
        with listening(hear):
            while True:
                part = parent.recv()
                parent.send(("done", stager.read(part, lambda n: parent.send(("read", n)))))
    except (EOFError, ConnectionError):
        return
    except BaseException as error:
        if not isinstance(error, NexaError):
            error.add_note(traceback.format_exc())
        parent.send(("error", error))
