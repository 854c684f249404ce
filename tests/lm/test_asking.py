from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nexa.core.events import Progress
from nexa.lm.asking import Asking, Job, Pace
from nexa.lm.client import Request, RequestFailed, request_key
from nexa.lm.journal import Journal
from nexa.lm.scripted_chat import ScriptedChat
from tests.lm.asked import request


def asking(journal: Journal, model: ScriptedChat, pace: Pace) -> Asking:
    asked = [request(f"q{i}") for i in range(3)]
    jobs = [Job(request_key(model.identity, one), one) for one in asked]
    return Asking(model, jobs, journal, pace, Progress("asking", 3, "rows"))


def test_work_that_was_stopped_before_it_began_asks_nothing(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        work = asking(journal, ScriptedChat({"*": "yes"}), Pace())
        work.stop()
        asyncio.run(work.run())
        assert (work.answers, journal.entries.sent) == ({}, 0)


def test_work_that_has_ended_may_still_be_stopped(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        work = asking(journal, ScriptedChat({"*": "yes"}), Pace())
        asyncio.run(work.run())
        work.stop(now=True)
    assert work.totals()["answered"] == 3


def test_work_may_be_cancelled_as_any_other(tmp_path: Path) -> None:
    async def story(work: Asking) -> None:
        task = asyncio.create_task(work.run())
        await asyncio.wait([task], timeout=0.1)
        task.cancel()
        await task

    with Journal.open(tmp_path / "journal.jsonl") as journal:
        work = asking(journal, ScriptedChat({"*": "yes"}), Pace(per_minute=1))
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(story(work))
        assert work.answered == 1


def test_a_job_that_is_taken_up_when_the_work_stops_is_not_sent(tmp_path: Path) -> None:
    work: list[Asking] = []

    def answer(_: Request) -> str:
        work[0].stop()
        return "so"

    with Journal.open(tmp_path / "journal.jsonl") as journal:
        work.append(asking(journal, ScriptedChat(answer), Pace(concurrency=3)))
        asyncio.run(work[0].run())
        assert journal.entries.sent == work[0].answered


def test_a_pause_ends_when_the_work_is_stopped_and_its_job_is_no_failure(tmp_path: Path) -> None:
    def refuse(_: Request) -> str:
        raise RequestFailed("too many", temporary=True, retry_after_s=200.0)

    async def story(work: Asking) -> None:
        task = asyncio.create_task(work.run())
        await asyncio.wait([task], timeout=0.1)
        work.stop()
        await task

    with Journal.open(tmp_path / "journal.jsonl") as journal:
        work = asking(journal, ScriptedChat(refuse), Pace(concurrency=1))
        asyncio.run(story(work))
    assert (work.answers, work.failed, journal.entries.sent) == ({}, 0, 1)
