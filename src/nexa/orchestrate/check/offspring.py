"""The parent's side of the child process: start it, ask it, and never leave it behind.

Both talk in lines of JSON over pipes. The child reads its standard input to the end in a thread of
its own: when this process goes, however it goes, the pipe closes and the child ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from nexa.core.errors import CapacityError, NexaError
from nexa.core.hardware import available_memory_bytes
from nexa.core.records import Artifact
from nexa.core.secrets import child_environment
from nexa.orchestrate.check.report import Finding

MODULE = "nexa.orchestrate.check.child"
END_WAIT_S = 20
TAIL_BYTES = 2000
# A limit of the kernel's, a failed allocation in C++: both are memory where memory was asked for.
OUT_OF_MEMORY = (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
MULTIPLE = 64  # tokens: what a proposed length is rounded down to
MARGIN = 0.8  # of the memory that is left, for what the small pass did not show


class Offspring:
    """One child process for the length of a block.

    `scratch` is a folder it may fill, `room` says how much memory it may take.
    """

    answer_wait_s = 1800.0  # the longest batch of the largest model that a processor would take

    def __init__(
        self, config_path: Path, scratch: Path, room: Callable[[], int] = available_memory_bytes
    ) -> None:
        self._config_path = config_path.absolute()
        self._scratch = scratch
        self._room = room
        self._facts: dict[str, Any] = {}
        self._limit_bytes = 0

    def __enter__(self) -> Offspring:
        with (self._scratch / "stderr").open("wb") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                bufsize=0,  # what is read ahead would be hidden from `select`
                env=child_environment(),
            )
        # Both are there: they were asked for.
        self._jobs = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        self._send({"scratch": str(self._scratch)})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(END_WAIT_S)
        with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use any more
            self._jobs.close()
        self._answers.close()

    def memory(self, records: Mapping[str, Artifact[Any]], facts: dict[str, Any]) -> str:
        """Send the job and wait for its first answer: the longest batch, forward and backward.

        Raises:
            CapacityError: the machine's memory does not hold it; says what would fit.
            NexaError: whatever the training would have been stopped by.
        """
        self._limit_bytes = self._room()
        self._send(
            {
                "config": str(self._config_path),
                "records": {role: artifact.digest for role, artifact in records.items()},
                "scratch": str(self._scratch),
                "memory_limit_bytes": self._limit_bytes,
            }
        )
        try:
            return self.answer("memory")
        finally:
            facts |= self._facts

    def converted(self, facts: dict[str, Any]) -> str:
        """The answer to the conversions to GGUF; raises as `answer`."""
        try:
            return self.answer("gguf")
        finally:
            facts |= self._facts

    def answer(self, check: str) -> str:
        """The child's answer to one of its checks.

        Raises:
            CapacityError: it was killed for its memory.
            NexaError: what it found, or how it ended.
        """
        for line in self._lines(check):
            told: Mapping[str, Any] = json.loads(line)
            self._facts |= told.get("facts", {})
            if told.get("check") != check:
                continue
            if "finding" in told:
                raise Finding(**told["finding"]).error()
            if "capacity" in told:
                raise self._capacity(told["capacity"])
            return str(told["detail"])
        raise self._ended(check)

    def _lines(self, check: str) -> Iterator[bytes]:
        """Its answers as they come.

        Raises:
            NexaError: none came for longer than any machine needs for one.
        """
        while True:
            ready, _, _ = select.select([self._answers], [], [], self.answer_wait_s)
            if not ready:
                raise NexaError(
                    f"the rehearsal of {check} gave no answer for {self.answer_wait_s:.0f} s",
                    fix="nexa check --no-rehearsal skips it",
                )
            line = self._answers.readline()  # the child writes whole lines
            if not line:
                return
            yield line

    def _send(self, job: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # how it ended is told where its answer is read
            self._jobs.write(json.dumps(job).encode() + b"\n")
            self._jobs.flush()

    def _ended(self, check: str) -> NexaError:
        """Why there is no answer."""
        code = self._process.wait(END_WAIT_S)
        said = _tail(self._scratch / "stderr")
        if code in OUT_OF_MEMORY:
            return self._capacity(f"the child process was ended by signal {-code}")
        return NexaError(
            f"the rehearsal of {check} ended without an answer",
            found=said or f"exit code {code}",
            fix="nexa check --no-rehearsal skips it; please report what it says",
        )

    def _capacity(self, why: str) -> CapacityError:
        limit = f"{self._limit_bytes / 1e9:.1f} GB are free for it"
        return CapacityError(
            "this machine's memory does not hold the training's longest batch",
            found=f"{why}; {limit}",
            fix=what_fits(self._facts, self._limit_bytes),
        )


def what_fits(facts: Mapping[str, Any], limit_bytes: int) -> str:
    """What to set so that a batch fits, from what the small pass took; else a smaller model."""
    held, a_token = facts.get("held_bytes"), facts.get("bytes_a_token")
    longest = facts.get("longest_row_tokens", 0)
    if held and a_token:
        tokens = int((limit_bytes - held) * MARGIN / a_token) // MULTIPLE * MULTIPLE
        if tokens >= max(longest, MULTIPLE):
            return f"training.micro_tokens: {tokens}   (the result stays the same)"
        if tokens >= MULTIPLE:
            return (
                f"data.max_length: {tokens} and training.micro_tokens: {tokens}, with shorter rows"
            )
    return "a smaller model, training.method lora or qlora, or a machine with more memory"


def _tail(path: Path) -> str:
    """The last lines of what the child complained about."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-3:])
