"""The journal of requests: what was sent and what was answered, one line of JSON each.

    {"journal": "nexa.requests", "version": 1}
    {"sent": 1, "key": KEY, "at": ISO, "most_usd": 0.02}
    {"answered": 1, "key": KEY, "at": ISO, "prompt_sha256": ..., "text": ..., "finish": "stop",
     "model": ..., "input_tokens": ..., "output_tokens": ..., "latency_s": ..., "attempts": 1,
     "cost_usd": 0.01, "extra": {}}
    {"failed": 2, "key": KEY, "at": ISO, "problem": ..., "billed": true}

Lines are only ever appended. A request is noted before it goes out, and an answer is flushed to the
disk before it is handed on, several at a time. A line that a kill has torn is the last one; it is
left out, and cut off when the journal is next written to. What was sent and has neither an answer
nor a refusal after it may have been paid for: so has what `billed` is said of.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.store import storage_error, sync_folder
from nexa.lm.client import Completion

HEADER = b'{"journal": "nexa.requests", "version": 1}\n'
ANSWER = ("text", "finish", "model", "input_tokens", "output_tokens", "latency_s", "extra")


@dataclass
class Entries:
    """What a journal holds."""

    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Request key -> its line; the first one, should there be two."""
    paid_usd: float = 0.0
    """For answers that are there, those that were asked for twice included."""
    lost: int = 0
    """Requests that may have been paid for without an answer."""
    lost_usd: float = 0.0
    """What those have cost at most."""
    sent: int = 0
    size_bytes: int = 0
    """Up to the end of the last whole line."""

    @property
    def spent_usd(self) -> float:
        """What has been paid, or may have been."""
        return self.paid_usd + self.lost_usd

    def completion(self, key: str) -> Completion | None:
        """The answer to a request, if it is there."""
        line = self.answers.get(key)
        return None if line is None else Completion(**{name: line[name] for name in ANSWER})


def read_journal(path: Path) -> Entries:
    """What a journal holds; nothing where there is none.

    Raises:
        IntegrityError: it is no journal, or a line that is not its last cannot be read.
        StorageError: it cannot be read.
    """
    found = Entries()
    open_usd: dict[int, float] = {}
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", fix="make it readable"
        ) from error
    if not data.startswith(HEADER):
        if HEADER.startswith(data):  # nothing yet, or torn within its first line
            return found
        raise IntegrityError(
            f"{path} is no journal of requests",
            found=repr(data[:60]),
            fix="name another file",
        )
    # By "\n" alone: text may hold other line ends. The part after the last one is torn.
    for number, line in enumerate(data[len(HEADER) :].split(b"\n")[:-1], 2):
        try:
            _take(json.loads(line), found, open_usd)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{path}: line {number} of the journal cannot be read",
                found=f"{type(error).__name__}: {line[:60]!r}",
                fix="take the file from a backup, or cut it off before that line",
            ) from error
    found.lost += len(open_usd)
    found.lost_usd += sum(open_usd.values())
    found.size_bytes = data.rfind(b"\n") + 1
    return found


def _take(line: Mapping[str, Any], found: Entries, open_usd: dict[int, float]) -> None:
    if "sent" in line:
        found.sent = max(found.sent, int(line["sent"]))
        open_usd[int(line["sent"])] = float(line["most_usd"] or 0.0)
    elif "answered" in line:
        open_usd.pop(int(line["answered"]))
        missing = [name for name in ANSWER if name not in line]
        if missing:
            raise KeyError(missing[0])
        found.answers.setdefault(str(line["key"]), line)
        found.paid_usd += float(line["cost_usd"] or 0.0)
    else:
        most_usd = open_usd.pop(int(line["failed"]))
        if line["billed"]:
            found.lost += 1
            found.lost_usd += most_usd


class Journal:
    """A journal that is open for one process to write to."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.entries = Entries()
        self._handle = handle
        self._written = 0
        self._durable = 0
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[Journal]:
        """Read a journal and be the only one to write to it; a torn last line is cut off.

        Raises:
            StorageError: another process has it, or it cannot be written.
            IntegrityError: see `read_journal`.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            journal = cls(path, handle)
            journal._lock()
            journal._begin()
            yield journal
            with journal._explained():
                os.fsync(handle)
        finally:
            os.close(handle)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"{self.path} is in use: another process is asking with this journal",
                fix="wait until it has ended; what it gets is then found here",
            ) from error

    def _begin(self) -> None:
        self.entries = read_journal(self.path)
        self._written = self.entries.size_bytes
        with self._explained():
            os.ftruncate(self._handle, self._written)
            if self._written == 0:
                self._append(HEADER)
                sync_folder(self.path.parent)

    # -- lines ---------------------------------------------------------------------------------

    def sent(self, key: str, most_usd: float | None) -> int:
        """Note that a request goes out; the number is what its outcome is noted under.

        The line outlives the process, though not a loss of power.
        """
        self.entries.sent += 1
        self._note({"sent": self.entries.sent, "key": key, "at": _now(), "most_usd": most_usd})
        return self.entries.sent

    async def answered(
        self,
        number: int,
        key: str,
        completion: Completion,
        *,
        prompt_sha256: str,
        attempts: int,
        cost_usd: float | None,
    ) -> None:
        """Keep an answer; it is on the disk when this returns."""
        line = {
            "answered": number,
            "key": key,
            "at": _now(),
            "prompt_sha256": prompt_sha256,
            **{name: getattr(completion, name) for name in ANSWER},
            "attempts": attempts,
            "cost_usd": cost_usd,
        }
        self._note(line)
        self.entries.answers.setdefault(key, line)
        await self._synced(self._written)

    def failed(self, number: int, key: str, problem: str, *, billed: bool) -> None:
        """Note that a request has no answer, and whether one may have been paid for."""
        line = {"failed": number, "key": key, "at": _now(), "problem": problem, "billed": billed}
        self._note(line)

    # -- bytes ---------------------------------------------------------------------------------

    def _note(self, line: Mapping[str, Any]) -> None:
        # In ASCII: half a surrogate pair, which a server may send, has no UTF-8.
        with self._explained():
            self._append(json.dumps(line).encode() + b"\n")

    def _append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._handle, left) :]
        except OSError:
            os.ftruncate(self._handle, self._written)  # no torn line before later ones
            raise
        self._written += len(data)

    async def _synced(self, wanted: int) -> None:
        """Wait for a flush that began after these bytes were written; many lines share one."""
        while self._durable < wanted:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync())
            # Whoever waits may be cancelled; the flush goes on for the others.
            await asyncio.shield(self._syncing)

    async def _sync(self) -> None:
        written = self._written
        try:
            with self._explained():
                await asyncio.to_thread(os.fsync, self._handle)
            self._durable = written
        finally:
            self._syncing = None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.path, error) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
