"""The requests under way: workers that send, wait, try again and keep what comes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from nexa.core.errors import NexaError
from nexa.core.events import Progress, emit
from nexa.lm.client import (
    ChatModel,
    Completion,
    Request,
    RequestFailed,
    most_input,
    prompt_digest,
)
from nexa.lm.journal import Journal
from nexa.lm.spending import Breaker, Budget

# Between two reports of how far it is.
REPORT_S = 0.5
# A pause of this length is told.
TOLD_WAIT_S = 5.0


@dataclass(frozen=True)
class Pace:
    """How hard a model may be asked, and for how much."""

    concurrency: int | None = None
    """Requests under way at once; None: the model's own."""
    per_minute: int | None = None
    attempts: int = 6
    timeout_s: float = 120.0
    budget_usd: float | None = None
    """A cap on what is paid within this journal, earlier runs included; no request that might
    carry the sum beyond is sent."""
    first_wait_s: float = 1.0
    """The pause after a first failure; it doubles with each further one."""
    longest_wait_s: float = 300.0
    """The longest pause; a server that asks for a longer one is not asked again."""


@dataclass(frozen=True)
class Job:
    """A request that has no answer yet, and the key that its answer is kept under."""

    key: str
    request: Request


@dataclass(frozen=True)
class Outcome:
    """What came of a job: an answer, which the journal has, or why there is none."""

    problem: str
    attempts: int


Answers = Mapping[str, Outcome]


class Stopped(Exception):
    """Nothing more is sent."""


class Asking:
    """Jobs on their way to a model. `run` is the work; `stop` may be called from any thread."""

    def __init__(
        self, model: ChatModel, jobs: Sequence[Job], journal: Journal, pace: Pace, bar: Progress
    ) -> None:
        self.answers: dict[str, Outcome] = {}
        self.answered = self.failed = 0
        self._model, self._journal, self._pace, self._bar = model, journal, pace, bar
        self._jobs = deque(jobs)
        self._spent_before_usd = journal.entries.spent_usd
        self._budget = Budget(pace.budget_usd, self._spent_before_usd)
        self._breaker = Breaker()
        self._tokens = [0, 0]
        self._fatal: NexaError | None = None
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._not_before = 0.0
        # Evenly, not all of a minute's requests in its first second.
        self._rate = AsyncLimiter(1, 60 / pace.per_minute) if pace.per_minute else None
        self._start = self._told = time.monotonic()
        self._reported = 0

    async def run(self) -> None:
        """Ask until all jobs have their outcome, or something ends the work.

        Raises:
            NexaError: what ended it.
        """
        self._loop = asyncio.get_running_loop()
        if self._stop.is_set():
            return
        count = min(self._pace.concurrency or self._model.concurrency, len(self._jobs))
        self._tasks = [asyncio.create_task(self._work()) for _ in range(count)]
        try:
            await asyncio.gather(*self._tasks)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._model.close()
            self._report(last=True)
        if self._fatal is not None:
            raise self._fatal

    def stop(self, *, now: bool = False) -> None:
        """Send nothing more; with `now` do not even wait for what is under way."""
        self._stop.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._wake, now)

    def totals(self) -> dict[str, Any]:
        """How it went, in numbers."""
        return {
            "answered": self.answered,
            "failed": self.failed,
            "input_tokens": self._tokens[0],
            "output_tokens": self._tokens[1],
            "spent_usd": round(self._budget.spent_usd - self._spent_before_usd, 6),
        }

    def _wake(self, now: bool) -> None:
        self._woken.set()
        if now:
            for task in self._tasks:
                task.cancel()

    # -- one job after another -------------------------------------------------------------------

    async def _work(self) -> None:
        while self._jobs and not self._stop.is_set():
            job = self._jobs.popleft()
            try:
                await self._see_to(job)
            except Stopped:
                return
            except NexaError as error:
                self._fatal = self._fatal or error
                self.stop()

    async def _see_to(self, job: Job) -> None:
        """Bring one job to its outcome.

        Raises:
            Stopped: before it had one.
            NexaError: what concerns all of them.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._passes),
            stop=lambda state: state.attempt_number >= self._pace.attempts,
            wait=self._wait_s,
            sleep=self._pause,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    number = attempt.retry_state.attempt_number
                    await self._ask(job, number)
        except RequestFailed as error:
            if error.temporary and self._stop.is_set():
                raise Stopped from error  # it was not tried as often as it might have been
            problem = f"{error.what}: {error.found}" if error.found else error.what
            self.answers[job.key] = Outcome(problem, retrying.statistics["attempt_number"])
            self.failed += 1
            self._report()
            self._breaker.failed(error)
        else:
            self.answers[job.key] = Outcome("", retrying.statistics["attempt_number"])
            self.answered += 1
            self._report()
            self._breaker.answered()

    async def _ask(self, job: Job, attempt: int) -> None:
        """One attempt: when the rate, the server and the budget allow it; its answer is kept."""
        if self._rate is not None:
            await self._unless_stopped(self._rate.acquire())
        await self._pause(self._not_before - time.monotonic())
        most_usd = self._cost_usd(most_input(job.request), job.request.max_new_tokens)
        await self._unless_stopped(self._budget.set_aside(most_usd or 0.0))
        paid_usd = 0.0
        try:
            if self._stop.is_set():
                raise Stopped
            number = self._journal.sent(job.key, most_usd)
            # Until it is known otherwise: an answer that is not waited for may be paid for, too.
            paid_usd = most_usd or 0.0
            try:
                completion = await self._model.complete(job.request, timeout_s=self._pace.timeout_s)
            except NexaError as error:
                paid_usd = self._refused(job, number, error, paid_usd)
                raise
            paid_usd = await self._keep(job, number, completion, attempt)
        finally:
            self._budget.settle(most_usd or 0.0, paid_usd)

    async def _keep(self, job: Job, number: int, completion: Completion, attempt: int) -> float:
        """Write an answer down; what it cost."""
        cost_usd = self._cost_usd(completion.input_tokens, completion.output_tokens)
        self._tokens[0] += completion.input_tokens
        self._tokens[1] += completion.output_tokens
        await self._journal.answered(
            number,
            job.key,
            completion,
            prompt_sha256=prompt_digest(job.request),
            attempts=attempt,
            cost_usd=cost_usd,
        )
        return cost_usd or 0.0

    def _refused(self, job: Job, number: int, error: NexaError, most_usd: float) -> float:
        """Write down that there is no answer; what that may have cost."""
        billed = isinstance(error, RequestFailed) and error.billed
        self._journal.failed(number, job.key, error.what, billed=billed)
        if isinstance(error, RequestFailed) and self._passes(error) and error.retry_after_s:
            self._all_wait(error.retry_after_s)
        return most_usd if billed else 0.0

    def _all_wait(self, wait_s: float) -> None:
        """It is about the account, not about one request."""
        now = time.monotonic()
        if wait_s >= TOLD_WAIT_S and now >= self._not_before:
            emit("note", text=f"{self._model.name}: waiting {wait_s:.0f} s, as the server asks")
        self._not_before = max(self._not_before, now + wait_s)

    def _cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        price = self._model.price
        return None if price is None else price.cost_usd(input_tokens, output_tokens)

    # -- again, later, or not at all -------------------------------------------------------------

    def _passes(self, error: BaseException) -> bool:
        if not isinstance(error, RequestFailed) or not error.temporary or self._stop.is_set():
            return False
        return (error.retry_after_s or 0.0) <= self._pace.longest_wait_s

    def _wait_s(self, state: RetryCallState) -> float:
        """The pause before the next attempt: what the server asks for, or longer.

        It doubles each time; up to one first pause more is drawn, so that requests which failed
        together do not come back together.
        """
        first_s, longest_s = self._pace.first_wait_s, self._pace.longest_wait_s
        backoff_s = min(longest_s, first_s * 2.0 ** (state.attempt_number - 1))
        backoff_s += random.uniform(0, first_s)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, RequestFailed) else None
        return max(asked or 0.0, backoff_s)

    async def _pause(self, wait_s: float) -> None:
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait_s)
        if self._stop.is_set():
            raise Stopped

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(waiting), asyncio.create_task(self._waken())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise Stopped
            await tasks[0]
        finally:
            for task in tasks:
                task.cancel()

    async def _waken(self) -> None:
        await self._woken.wait()

    def _report(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._told < REPORT_S:
            return
        done = self.answered + self.failed
        self._bar.advance(
            done - self._reported,
            answered=self.answered,
            failed=self.failed,
            spent_usd=self.totals()["spent_usd"],
            rows_per_s=round(done / max(now - self._start, 1e-6), 2),
        )
        self._told, self._reported = now, done
