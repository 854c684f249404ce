from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Callable, Iterator

import pytest

from nexa.cli.progress import Bars
from nexa.core.events import emit, listening, progress


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that moves by `step_s` each time it is read."""
    times: Iterator[float] = iter(step_s * n for n in range(1000))
    return lambda: next(times)


class Clock:
    """A clock that moves when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def piped(*, verbosity: int = 0) -> tuple[Bars, io.StringIO]:
    stream = io.StringIO()
    return Bars(stream=stream, terminal=False, verbosity=verbosity, clock=ticking(208)), stream


def test_in_a_pipe_a_task_is_its_start_and_its_end() -> None:
    clock, stream = Clock(), io.StringIO()
    bars = Bars(stream=stream, terminal=False, clock=clock)
    with listening(bars), progress("training", 43, "steps") as bar:
        for _ in range(43):
            clock.now += 1
            bar.advance(1, loss=0.2134, lr=1e-3, tokens_per_s=421.3, rows=8)
    assert stream.getvalue() == (
        "training (43 steps) ...\n"
        "training: 43 steps in 43 s  loss 0.213  421 tokens/s  lr 1e-3  rows 8\n"
    )


def test_in_a_pipe_a_long_task_says_once_a_minute_how_far_it_is() -> None:
    clock, stream = Clock(), io.StringIO()
    bars = Bars(stream=stream, terminal=False, clock=clock)
    with listening(bars), progress("training", 100, "steps") as bar:
        bar.done = 40  # before a kill
        for step in range(41, 101):
            clock.now += 9
            bar.advance(1, loss=1 / step)
    lines = stream.getvalue().splitlines()
    # A step is 9 s: the first line comes with the first step a minute after the start.
    assert lines[1] == "training: 47 of 100 steps, 7 min 57 s left  loss 0.021"
    assert len(lines) == 1 + 8 + 1
    assert lines[-1] == "training: 100 steps in 9 min 00 s  loss 0.010"


def test_of_a_task_without_a_total_nobody_knows_how_long_it_will_take() -> None:
    clock, stream = Clock(), io.StringIO()
    bars = Bars(stream=stream, terminal=False, clock=clock)
    with listening(bars), progress("reading", unit="rows") as bar:
        clock.now = 61
        bar.advance(1000)
        clock.now = 122
        bar.advance(1000)
    assert stream.getvalue().splitlines()[1:3] == ["reading: 1,000 rows", "reading: 2,000 rows"]


def test_a_training_tells_loss_speed_and_its_share_of_the_limit_memory_and_cost() -> None:
    bars, stream = piped()
    fields = {"loss": 1.2244, "lr": 2e-4, "tokens_per_s": 846, "limit_tokens_per_s": 1586}
    with listening(bars), progress("training", 2, "steps") as bar:
        bar.advance(1, **fields, memory_bytes=None, cost_usd=None)
        bar.advance(1, memory_bytes=4_410_000_000, cost_usd=0.0213, validation_loss=1.5)
    assert stream.getvalue().endswith(
        "  loss 1.224  validation 1.500  846 tokens/s, 53% of the machine's limit"
        "  4.4 GB  0.02 USD  lr 2e-4\n"
    )


def test_a_task_that_broke_off_says_how_far_it_came() -> None:
    clock, stream = Clock(), io.StringIO()
    bars = Bars(stream=stream, terminal=False, clock=clock)
    with (  # noqa: PT012 - the block is the point
        pytest.raises(ValueError, match="stop"),
        listening(bars),
        progress("downloading", 4e6, "bytes") as bar,
    ):
        bar.advance(1e6, file="a\x1b")
        clock.now += 208
        raise ValueError("stop")
    told = "downloading: 1.0 MB of 4.0 MB in 3 min 28 s  file a\\x1b\n"
    assert stream.getvalue() == f"downloading (4.0 MB) ...\n{told}"


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


@pytest.mark.parametrize(("columns", "bar"), [(80, 8), (100, 15), (160, 30)])
def test_on_a_terminal_a_training_is_one_line_of_its_width(
    columns: int, bar: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ours, theirs = pty.openpty()
    told = ""
    with (
        open(theirs, "w", encoding="utf-8") as stream,
        Bars(stream=stream) as bars,
        listening(bars),
        progress("training", 4, "steps") as running,
    ):
        fields = {"loss": 0.5, "lr": 2e-4, "tokens_per_s": 846, "limit_tokens_per_s": 1586}
        running.advance(1, **fields, memory_bytes=4.4e9)
        while "loss 0.500" not in told:  # it is drawn ten times a second
            told += os.read(ours, 1 << 16).decode(errors="replace")
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told).replace("\r", "\n").splitlines()
    live = next(line for line in lines if "loss 0.500" in line)
    assert len(live) <= columns
    assert "training" in live
    assert "ETA" in live
    assert len(re.findall("[━╸╺]", live)) == bar
    assert ("846 tokens/s, 53%" in live) == (columns > 80) or live.endswith("…")


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
    shown = Bars(stream=io.StringIO(), terminal=True)
    with progress("training", 2, "steps") as bar, listening(shown):
        bar.advance(2, loss=1.0)
    bars({"kind": "progress.end", "task": "training", "done": 2, "total": 2, "unit": "steps"})
    assert "training: 2 steps in" in stream.getvalue()
    assert "loss 1.000" in stream.getvalue()


def test_left_to_itself_it_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Bars()({"kind": "note", "text": "hello"})
    assert capsys.readouterr().err == "note: hello\n"
