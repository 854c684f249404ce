from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import pytest

from nexa.cli.progress import Bars
from nexa.core.events import emit, listening, progress


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that moves by `step_s` each time it is read."""
    times: Iterator[float] = iter(step_s * n for n in range(1000))
    return lambda: next(times)


def piped(*, verbosity: int = 0) -> tuple[Bars, io.StringIO]:
    stream = io.StringIO()
    return Bars(stream=stream, terminal=False, verbosity=verbosity, clock=ticking(208)), stream


def test_in_a_pipe_a_task_is_its_start_and_its_end() -> None:
    bars, stream = piped()
    with listening(bars), progress("training", 43, "steps") as bar:
        for _ in range(43):
            bar.advance(1, loss=0.2134, lr=1e-3, tokens_per_s=421.3, rows=8)
    assert stream.getvalue() == (
        "training (43 steps) ...\n"
        "training: 43 steps in 3 min 28 s  loss 0.213  lr 1e-3  421 tokens/s  rows 8\n"
    )


def test_a_task_that_broke_off_says_how_far_it_came() -> None:
    bars, stream = piped()
    with (  # noqa: PT012 - the block is the point
        pytest.raises(ValueError, match="stop"),
        listening(bars),
        progress("downloading", 4e6, "bytes") as bar,
    ):
        bar.advance(1e6, file="a\x1b")
        raise ValueError("stop")
    assert "downloading: 1,000,000 of 4.0 MB in 3 min 28 s  file a\\x1b\n" in stream.getvalue()


def test_a_task_without_a_count_is_done() -> None:
    bars, stream = piped()
    with listening(bars), progress("loading the model"):
        pass
    assert stream.getvalue() == "loading the model ...\nloading the model: done in 3 min 28 s\n"


def test_notes_and_saved_files_are_lines_and_data_in_them_is_cleaned() -> None:
    bars, stream = piped()
    with listening(bars):
        emit("note", text="taken from \x1b[31mthe wheel")
        emit("saved", path="./output/model.safetensors", size_bytes=269_000_000)
        emit("step.reused", label="dataset/materials@v1")
        emit("step.start", step="finetune")
        emit("step.start", step="a-plugin's")
        emit("step.end", step="finetune")
    assert stream.getvalue() == (
        "note: taken from \\x1b[31mthe wheel\n"
        "Saved: ./output/model.safetensors (269.0 MB)\n"
        "reused dataset/materials@v1: made before by the same recipe\n"
        "Training\n"
        "a-plugin's\n"
    )


def test_verbose_tells_every_event_and_quiet_none() -> None:
    loud, told = piped(verbosity=1)
    silent, untold = piped(verbosity=-1)
    with listening(loud, silent):
        emit("step.end", step="finetune", fast=True)
        with progress("training", 2, "steps") as bar:
            bar.advance(2)
        emit("note", text="words")
    assert "step.end  step=finetune  fast=True\n" in told.getvalue()
    assert untold.getvalue() == ""


def test_on_a_terminal_tasks_have_bars_and_end_as_lines() -> None:
    stream = io.StringIO()
    bars = Bars(stream=stream, terminal=True, clock=ticking(1))
    with bars, listening(bars):
        with progress("training", 4, "steps") as outer:
            outer.advance(1, loss=0.5)
            with progress("[red]saving", 1, "files") as inner:
                inner.advance(1)
            emit("note", text="half [bold]way")
            outer.advance(3, loss=0.25)
        emit("note", text="after")
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "━" in told
    assert "[red]saving: 1 files in 1.0 s" in told
    assert "note: half [bold]way" in told
    assert "training: 4 steps in 3.0 s  loss 0.250" in told
    assert told.endswith("note: after\n")
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h")


def test_an_error_takes_the_bars_down() -> None:
    stream = io.StringIO()
    bars = Bars(stream=stream, terminal=True)
    with bars:
        bars({"kind": "progress.start", "task": "training", "total": 4, "unit": "steps"})
    assert stream.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()


def test_progress_of_a_task_that_began_before_the_sink_is_not_lost() -> None:
    bars, stream = piped()
    with progress("training", 2, "steps") as bar, listening(bars):
        bar.advance(2, loss=1.0)
    bars({"kind": "progress.end", "task": "training", "done": 2, "total": 2, "unit": "steps"})
    assert "training: 2 steps in" in stream.getvalue()
    assert "loss 1.000" in stream.getvalue()


def test_left_to_itself_it_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Bars()({"kind": "note", "text": "hello"})
    assert capsys.readouterr().err == "note: hello\n"
