"""Which rounds there were: one small JSON a config.yaml, in the ledger beside the manifests.

    runs/improve/CONFIG_SHA256.json
    {"schema": "nexa.improve/1", "base": {"run_id": ..., "dataset": DIGEST},
     "passes": [{"asked": {...}, "begun": "2026-01-31-120000", "began_at": ..., "ended": null,
                 "journals": {"JOB.jsonl": 0.0},
                 "rounds": [{"number": 1, "run_id": ..., "accepted": true, "reason": ..., ...}]}]}

A pass is one command that came to its end, however often it was killed on the way: the same
command goes on with a pass that has none. What it made is in the store by its recipe, so nothing
else has to be kept. The last accepted round of all passes is where the next one begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nexa.core.errors import IntegrityError, UsageError
from nexa.core.identity import new_run_id
from nexa.core.store import storage_error, write_atomic
from nexa.core.tiers import Tiers

SCHEMA = "nexa.improve/1"
STAMP = len("YYYY-MM-DD-HHMMSS")  # of a run's id


@dataclass(frozen=True)
class Round:
    """A round that was decided on."""

    number: int
    run_id: str
    accepted: bool
    reason: str
    dataset_before: str
    dataset_after: str | None = None
    tried: str | None = None
    """Digest of the dataset version that was tried; None: no candidate was new."""
    decision: str | None = None
    """Digest of its record; None: the training itself failed."""


@dataclass
class Pass:
    """One command: what it was asked, and the rounds that it has come to."""

    asked: dict[str, Any]
    begun: str
    """The second, as a run's id begins."""
    began_at: float
    """That moment to a millisecond: a run of the same second may have been there before."""
    ended: str | None = None
    rounds: list[Round] = field(default_factory=list)
    journals: dict[str, float] = field(default_factory=dict)
    """Journal of a teacher's answers -> dollars that were paid in it before this pass."""


@dataclass
class Book:
    """All passes of one config.yaml."""

    path: Path
    base: dict[str, str] | None = None
    passes: list[Pass] = field(default_factory=list)

    @property
    def now(self) -> Pass:
        """The pass that is under way."""
        return self.passes[-1]

    @property
    def rounds(self) -> list[Round]:
        """The rounds of all passes, in their order."""
        return [done for one in self.passes for done in one.rounds]

    @property
    def accepted(self) -> Round | None:
        """The last one that was kept."""
        return next((done for done in reversed(self.rounds) if done.accepted), None)

    @property
    def tried(self) -> str | None:
        """The dataset version that the last round tried, if it was rolled back."""
        last = self.rounds[-1] if self.rounds else None
        return None if last is None or last.accepted else last.tried

    def begin(self, asked: Mapping[str, Any]) -> bool:
        """Go on with the last pass, if it was asked the same and has no end; else begin one.

        Returns whether it goes on.
        """
        if self.passes and self.now.ended is None and self.now.asked == dict(asked):
            return True
        now = datetime.now(UTC)
        stamp = new_run_id(now, b"\0\0")[:STAMP]
        self.passes.append(Pass(dict(asked), stamp, round(now.timestamp(), 3)))
        self.write()
        return False

    def stand_on(self, run_id: str, dataset: str) -> bool:
        """Note the run that all rounds begin from; returns whether it is another than before.

        With other rows the rounds before say nothing any more: they stay in the ledger's manifests.
        """
        before = self.base
        self.base = {"run_id": run_id, "dataset": dataset}
        changed = before is not None and before["dataset"] != dataset
        if changed:
            self.now.rounds = []
            self.passes = [self.now]
        if before != self.base:
            self.write()
        return changed

    def note_round(self, done: Round) -> None:
        """A round was decided on."""
        self.now.rounds.append(done)
        self.write()

    def note_journal(self, name: str, paid_usd: float) -> None:
        """Answers will be paid for in a journal, in which so much was paid before."""
        if name not in self.now.journals:
            self.now.journals[name] = paid_usd
            self.write()

    def end(self, reason: str) -> None:
        """The pass is over."""
        self.now.ended = reason
        self.write()

    def write(self) -> None:
        """Put it on the disk, whole or not at all."""
        told = {"schema": SCHEMA, "base": self.base, "passes": [asdict(p) for p in self.passes]}
        write_atomic(self.path, (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode())


def read_book(tiers: Tiers, config_sha256: str) -> Book:
    """The passes of a config.yaml; none where nothing was improved yet.

    Raises:
        IntegrityError: the file is there, and is none.
    """
    path = tiers.root / "runs" / "improve" / f"{config_sha256[:32]}.json"
    if not path.exists():
        return Book(path)
    try:
        told = json.loads(path.read_bytes())
        if told["schema"] != SCHEMA:
            raise ValueError(f"its schema is {told['schema']}")
        passes = [
            Pass(**{**one, "rounds": [Round(**done) for done in one["rounds"]]})
            for one in told["passes"]
        ]
        return Book(path, told["base"], passes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path} is not a record of rounds",
            found=str(error),
            fix=f"take it from git, or begin anew: mv {path.name} {path.name}.old",
        ) from error


@contextlib.contextmanager
def held(tiers: Tiers) -> Iterator[None]:
    """Keep every other process from improving here.

    Raises:
        UsageError: another one does.
    """
    lock = tiers.root / ".nexa" / "improve.lock"
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
                "this project is being improved by another process",
                fix="wait for it: the same command then goes on",
            ) from error
        yield
