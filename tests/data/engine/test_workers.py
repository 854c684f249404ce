"""Processes: what they read comes back, and so does whatever goes wrong in them."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

from nexa.core.errors import CapacityError, DataError, NexaError
from nexa.core.events import emit
from nexa.data.engine import stager
from nexa.data.engine.parts import Part, parts_of
from nexa.data.engine.stager import Done, Job, Stager
from nexa.data.engine.workers import Workers, main, serve
from nexa.data.filters.base import FilterSpec
from nexa.data.sources import sources_of
from nexa.lm.resolve import ModelFiles
from tests.data.build import record
from tests.data.conftest import WriteRows


@pytest.fixture
def job(model: ModelFiles, tmp_path: Path) -> Job:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return Job(model, folder)


@pytest.fixture
def parts(write_rows: WriteRows) -> list[Part]:
    sources = sources_of(write_rows([record(i) for i in range(60)]))
    return list(parts_of([(sources[0], "record")], part_bytes=4000))


def children() -> list[psutil.Process]:
    """The workers that this process has begun; other tests may have left others."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "nexa.data.engine.workers" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_every_part_is_read_once_and_nobody_stays(job: Job, parts: list[Part]) -> None:
    heard: list[int] = []
    with Workers(job, 2) as workers:
        assert len(children()) == 2
        done = list(workers.read(parts, heard.append))
    assert children() == []
    assert sorted(item.part.number for item in done) == list(range(len(parts)))
    assert sum(item.rows for item in done) == sum(heard) == 60
    assert len(parts) > 2


def test_a_worker_that_the_system_ends_is_told_with_its_place(job: Job, parts: list[Part]) -> None:
    with Workers(job, 1) as workers:
        results = workers.read(parts, lambda _: None)
        next(results)
        children()[0].send_signal(signal.SIGKILL)
        with pytest.raises(CapacityError, match="SIGKILL") as caught:
            list(results)
    assert "rows.jsonl, lines " in str(caught.value.found)
    assert children() == []


def test_a_worker_that_dies_is_told_with_how(job: Job, parts: list[Part]) -> None:
    with Workers(job, 1) as workers:
        results = workers.read(parts, lambda _: None)
        next(results)
        children()[0].send_signal(signal.SIGTERM)
        with pytest.raises(DataError, match=r"died \(SIGTERM\)"):
            list(results)


def test_workers_that_cannot_start_leave_nobody(
    job: Job, monkeypatch: pytest.MonkeyPatch, parts: list[Part]
) -> None:
    real = subprocess.Popen
    started: list[Any] = []

    def start(*given: Any, **options: Any) -> Any:
        if started:
            raise OSError("no more processes")
        started.append(real(*given, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(OSError, match="no more"), Workers(job, 2):
        pass
    assert started[0].returncode == -signal.SIGKILL


def test_what_a_worker_raises_comes_back_as_itself(
    model: ModelFiles, job: Job, parts: list[Part]
) -> None:
    missing = Part(0, "gone.jsonl", job.folder / "gone.csv", "record")
    with Workers(job, 1) as workers, pytest.raises(DataError, match="cannot read") as caught:
        list(workers.read([missing], lambda _: None))
    assert caught.value.found == "No such file or directory"
    bad = Job(model, job.folder, (FilterSpec("nobody", 1),))
    with Workers(bad, 1) as workers, pytest.raises(NexaError, match="no filter named 'nobody'"):
        list(workers.read(parts, lambda _: None))


PLUGIN = """
from nexa.core.events import emit

class Telling:
    version = 1

    def __call__(self, options):
        def judge(rows):
            emit("note", text=f"{len(rows)} rows")
            return [None] * len(rows)
        return judge

TELLING = Telling()
"""


def test_a_plugin_works_in_a_worker_and_what_it_tells_is_heard(
    job: Job,
    parts: list[Part],
    notes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = tmp_path / "site"
    info = site / "telling-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "telling.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: telling\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nexa.filter]\ntelling = telling:TELLING\n")
    monkeypatch.syspath_prepend(site)
    asked = replace(job, filters=(FilterSpec("telling", 1),))
    with Workers(asked, 1) as workers:
        done = list(workers.read(parts, lambda _: None))
    assert notes == [f"{item.rows} rows" for item in done]


# -- the worker's side, in a thread of this process ----------------------------------------------


Talk = Callable[..., tuple[str, Any]]


@pytest.fixture
def talk(job: Job, model: ModelFiles) -> Iterator[Talk]:
    """Send something to a worker and hear what it has to say."""
    here, there = Pipe()
    life = threading.Thread(target=serve, args=(there,))
    life.start()
    here.send(job)

    def say(thing: object) -> tuple[str, Any]:
        here.send(thing)
        told: tuple[str, Any] = here.recv()
        while told[0] == "read":
            told = here.recv()
        return told

    yield say
    here.close()
    life.join()


def test_a_worker_reads_until_nobody_asks(talk: Talk, parts: list[Part]) -> None:
    for part in parts[:2]:
        kind, done = talk(part)
        assert (kind, done.part) == ("done", part)


def test_a_note_of_a_worker_is_this_processes(
    talk: Talk, parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Stager, part: Part, advance: Callable[[int], None]) -> Done:
        emit("note", text="odd")
        emit("other")
        return Done(part)

    monkeypatch.setattr(stager.Stager, "read", read)
    kind, event = talk(parts[0])
    assert (kind, event["text"]) == ("event", "odd")


def test_an_error_that_nobody_foresaw_carries_its_own_trace(talk: Talk) -> None:
    kind, error = talk("no part")
    assert kind == "error"
    assert isinstance(error, AttributeError)
    assert "Traceback" in error.__notes__[0]


def test_an_error_of_ours_needs_no_trace(talk: Talk, job: Job) -> None:
    kind, error = talk(Part(0, "gone.csv", job.folder / "gone.csv", "record"))
    assert kind == "error"
    assert isinstance(error, DataError)
    assert not hasattr(error, "__notes__")


def test_a_worker_whose_parent_is_gone_ends() -> None:
    here, there = Pipe()
    here.close()
    main(os.dup(there.fileno()))
    there.close()


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DataError("what", found="seen", fix="do")))
    assert (error.what, error.found, error.fix) == ("what", "seen", "do")
    assert str(error) == str(DataError("what", found="seen", fix="do"))


# -- a whole program -----------------------------------------------------------------------------

PROGRAM = """
import signal
import sys
from pathlib import Path
from nexa.core.events import listening
from nexa.core.store import Store
from nexa.data.prepare import PrepareSpec, prepare
from nexa.data.sources import sources_of
from nexa.lm.resolve import resolve

rows, model, scratch = map(Path, sys.argv[1:])
spec = PrepareSpec("x", sources_of(rows), resolve(str(model)), workers=2, part_bytes=4000,
                   scratch=scratch)

# A shell's background job ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(event):
    if event["kind"] == "progress":
        print(flush=True)

with listening(say):
    while True:
        prepare(spec, store=Store(scratch / "store"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_program(
    number: signal.Signals, write_rows: WriteRows, tiny_llama: Path, tmp_path: Path
) -> None:
    rows = write_rows([record(i) for i in range(400)])
    scratch = tmp_path / "work"
    command = [sys.executable, "-c", PROGRAM, str(rows), str(tiny_llama), str(scratch)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "\n"  # rows are read
        workers = psutil.Process(program.pid).children()
        assert workers
        program.send_signal(number)
        _, complaints = program.communicate()
    psutil.wait_procs(workers, timeout=60)
    assert not any(worker.is_running() for worker in workers)
    if number == signal.SIGINT:
        assert program.returncode == -signal.SIGINT
        assert complaints.count("Traceback") == 1  # the program's own
        assert list(scratch.glob("nexa-prepare-*")) == []
