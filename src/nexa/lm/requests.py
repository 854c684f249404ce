"""Many requests to one model: at once, within a rate, again where it helps, never paid for twice.

Every answer is written to a journal before it is handed on. A run that was killed reads the
journal and asks only for what has no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path

from nexa.core.errors import UsageError
from nexa.core.events import emit, progress
from nexa.core.identity import Unstable
from nexa.core.interrupts import LOOK_S, Interrupted, awaited
from nexa.lm.asking import Answers, Asking, Job, Pace
from nexa.lm.client import ChatModel, Completion, Request, RequestFailed, request_key
from nexa.lm.journal import Entries, Journal, read_journal

__all__ = ["Answered", "Estimate", "Pace", "ask_all", "estimate"]

# After Ctrl-C answers that are under way are waited for so long.
GRACE_S = 15.0


@dataclass(frozen=True)
class Answered:
    """A request with its answer, or with why there is none."""

    request: Request
    completion: Completion | None
    problem: str = ""
    cost_usd: float | None = None
    """What the answer cost, now or (`cached`) when it was asked for; None: the price is not
    known."""
    cached: bool = False
    """It was there already, or is that of an equal request: nothing was paid for it now."""
    attempts: int = 0


@dataclass(frozen=True)
class Estimate:
    """What requests will take at most."""

    requests: int
    cached: int
    input_tokens: int
    output_tokens: int
    usd: float | None


def estimate(model: ChatModel, requests: Sequence[Request], *, journal: Path) -> Estimate:
    """Tokens and dollars for the requests that are not answered yet; nothing is sent.

    Output is counted as long as it may become. Input is exact of a local model and else a third of
    the bytes, rounded up; equal requests are asked once.

    Raises:
        ModelError: a local model is asked for what it cannot do.
        IntegrityError: the journal cannot be read.
    """
    entries = read_journal(journal)
    plan = _Plan(model, requests, entries)
    asked = told = 0
    for job in plan.jobs:
        try:
            told += model.count_tokens(job.request)
            asked += job.request.max_new_tokens
        except RequestFailed:  # a row that will not be sent
            continue
    price = model.price
    return Estimate(
        requests=len(requests),
        cached=plan.cached,
        input_tokens=told,
        output_tokens=asked,
        usd=None if price is None else price.cost_usd(told, asked),
    )


def ask_all(
    model: ChatModel, requests: Sequence[Request], *, journal: Path, pace: Pace
) -> list[Answered]:
    """Answers to all requests, in their order.

    `journal` is a file of this model's answers, in scratch or durable storage: it is read first,
    every answer is appended to it as it comes.

    Raises:
        BudgetSpent: the budget does not reach for the rest.
        AccessError: the server refuses the key.
        ModelError: there is no such model, or it cannot do what is asked.
        RequestFailed: the first requests, or many in a row, failed for good in the same way.
        StorageError: the journal cannot be written, or another process is writing to it.
        IntegrityError: the journal cannot be read.
        Interrupted: Ctrl-C or SIGTERM; answers that were under way are kept.
    """
    _check(model, requests, pace)
    with Journal.open(journal) as kept:
        plan = _Plan(model, requests, kept.entries)
        _tell_lost(kept.entries, journal)
        with progress(f"asking {model.name}", len(requests), "rows") as bar:
            bar.advance(plan.cached + plan.unsendable, cached=plan.cached)
            asking = Asking(model, plan.jobs, kept, pace, bar)
            try:
                _drive(asking, journal)
            finally:
                emit("lm.asked", model=model.name, cached=plan.cached, **asking.totals())
        return plan.answered(asking.answers)


def _check(model: ChatModel, requests: Sequence[Request], pace: Pace) -> None:
    twice = [name for name, count in Counter(r.id for r in requests).items() if count > 1]
    if twice:
        raise UsageError("requests that are sent together have ids of their own", found=twice[0])
    wrong = {
        "concurrency": pace.concurrency is not None and pace.concurrency < 1,
        "per_minute": pace.per_minute is not None and pace.per_minute < 1,
        "attempts": pace.attempts < 1,
        "timeout_s": pace.timeout_s <= 0,
        "budget_usd": pace.budget_usd is not None and not pace.budget_usd >= 0,
    }
    for name, bad in wrong.items():
        if bad:
            raise UsageError(f"{name} cannot be {getattr(pace, name)}")
    if pace.budget_usd is not None and model.price is None:
        raise UsageError(
            f"a budget needs a price, and that of {model.name} is not known",
            fix="give it: --price IN,OUT in dollars for a million tokens",
        )


def _tell_lost(entries: Entries, journal: Path) -> None:
    if entries.lost:
        emit(
            "note",
            text=f"{journal.name}: {entries.lost} times a request of earlier runs went out and no "
            f"answer came; each may have been paid for (${entries.lost_usd:.4f} at most)",
        )


class _Plan:
    """Which requests have an answer, which are asked, and which are equal."""

    def __init__(self, model: ChatModel, requests: Sequence[Request], entries: Entries) -> None:
        self._requests = requests
        self._before = entries
        self._keys: list[str | None] = []
        self._problems: dict[int, str] = {}
        first: dict[str, Job] = {}
        for place, request in enumerate(requests):
            try:
                key = request_key(model.identity, request)
            except Unstable as error:
                self._keys.append(None)
                self._problems[place] = error.what
                continue
            self._keys.append(key)
            if key not in entries.answers:
                first.setdefault(key, Job(key, request))
        self._known = {key for key in self._keys if key in entries.answers}
        self.jobs = list(first.values())
        self.unsendable = len(self._problems)
        self.cached = len(requests) - len(self.jobs) - self.unsendable

    def answered(self, answers: Answers) -> list[Answered]:
        """All of them, in their order; of equal ones only the first was paid for."""
        seen = set(self._known)
        found: list[Answered] = []
        for place, (request, key) in enumerate(zip(self._requests, self._keys, strict=True)):
            if key is None:
                found.append(Answered(request, None, self._problems[place]))
                continue
            cached = key in seen
            seen.add(key)
            outcome = answers.get(key)
            if outcome is not None and outcome.problem:
                found.append(Answered(request, None, outcome.problem, attempts=outcome.attempts))
                continue
            line = self._before.answers[key]
            found.append(
                Answered(
                    request,
                    self._before.completion(key),
                    cost_usd=line["cost_usd"],
                    cached=cached,
                    attempts=0 if cached else int(line["attempts"]),
                )
            )
        return found


# -- the thread ----------------------------------------------------------------------------------


def _drive(asking: Asking, journal: Path) -> None:
    """Ask in a thread of its own, so that a signal never strikes in the midst of a write."""
    ended: Future[None] = Future()
    context = copy_context()

    def work() -> None:
        try:
            context.run(asyncio.run, asking.run())
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=work, name="nexa-requests")
    try:
        thread.start()
        awaited(ended)
    except KeyboardInterrupt as asked:
        _wind_up(asking, ended)
        number = asked.number if isinstance(asked, Interrupted) else signal.SIGINT
        raise Interrupted(
            number,
            found=f"{asking.answered} answers of this run are kept in {journal}",
            fix="the same command asks only for the rest",
        ) from None
    finally:
        _join(thread, asking)


def _wind_up(asking: Asking, ended: Future[None]) -> None:
    """Send nothing more, wait for answers under way; a second Ctrl-C or `GRACE_S` ends that."""
    asking.stop()
    # A request that is not tried again any more has failed; it was the user who ended it.
    with contextlib.suppress(RequestFailed):
        try:
            emit("note", text=f"stopping: answers that are under way have {GRACE_S:.0f} s")
            awaited(ended, most_s=GRACE_S)
        except (TimeoutError, KeyboardInterrupt):
            asking.stop(now=True)
            awaited(ended)


def _join(thread: threading.Thread, asking: Asking) -> None:
    """Wait for the thread, whatever comes: the journal is closed after it."""
    while thread.is_alive():
        try:
            thread.join(LOOK_S)
        except KeyboardInterrupt:
            asking.stop(now=True)
