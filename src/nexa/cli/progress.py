"""The terminal's sink of `nexa.core.events`: progress bars, or plain lines in a pipe.

On a terminal every running task has a bar with its remaining time and its newest numbers, which
shrinks to one line when the task ends. In a pipe a task is two lines, its start and its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from nexa.cli.format import clean, duration, number, rate, size
from nexa.core.events import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# How a field of a progress event is told; a field that is not here is told by its name.
FIELDS: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.3f}",
    "lr": lambda value: f"lr {rate(value)}",
    "tokens_per_s": lambda value: f"{value:,.0f} tokens/s",
}
# What a step is called while it is made.
STEPS = {
    "prepare": "Preparing data",
    "freeze": "Freezing the evaluation suite",
    "generate": "Asking the held-out questions",
    "finetune": "Training",
    "merge": "Merging, and proving the merge",
    "adopt": "Looking at what was found",
    "take": "Taking the model as it is",
    "score": "Scoring",
    "analyze": "Comparing base and tuned",
    "publish": "Publishing",
}
# Events that are told without -v, each as one line.
LINES: dict[str, Callable[[Event], str]] = {
    "step.start": lambda event: STEPS.get(str(event["step"]), str(event["step"])),
    "train.epoch": lambda event: (
        f"Epoch {event['epoch']}/{event['epochs']}: "
        f"loss={event['loss']:.3f}, lr={rate(event['lr'])}"
    ),
    "train.resumed": lambda event: (
        f"Going on from step {event['step']} of {event['total']}: {event['path']}"
    ),
    "note": lambda event: f"note: {event['text']}",
    "saved": lambda event: f"Saved: {event['path']} ({size(event['size_bytes'])})",
    "step.reused": lambda event: f"reused {event['label']}: made before by the same recipe",
}


class Bars:
    """Shows events on stderr. `verbosity`: -1 nothing, 0 tasks and notes, 1 every event.

    `stream`, `terminal` and `clock` are there for tests; left out, they are stderr, what stderr
    is, and the monotonic clock.
    """

    def __init__(
        self,
        *,
        verbosity: int = 0,
        stream: TextIO | None = None,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() if terminal is None else terminal
        self._verbosity = verbosity
        self._clock = clock
        self._started: dict[str, float] = {}
        self._fields: dict[str, dict[str, Any]] = {}
        self._live: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        """Take down bars that an error left standing, so that its text is readable."""
        self._take_down()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._verbosity < 0:
            return
        kind = event["kind"]
        if kind == "progress.start":
            self._start(event)
        elif kind == "progress":
            self._advance(event)
        elif kind == "progress.end":
            self._end(event)
        elif kind in LINES:
            self._line(LINES[kind](event))
        elif self._verbosity > 0:
            rest = "  ".join(f"{k}={v}" for k, v in event.items() if k not in ("t", "kind"))
            self._line(f"{kind}  {rest}")

    def _start(self, event: Event) -> None:
        task = event["task"]
        self._started[task] = self._clock()
        self._fields[task] = {}
        if self._terminal:
            if self._live is None:
                self._live = self._new_live()
                self._live.start()
            self._bars[task] = self._live.add_task(clean(task), total=event["total"], shown="")
        else:
            total = f" ({_amount(event['total'], event['unit'])})" if event["total"] else ""
            self._line(f"{task}{total} ...")

    def _advance(self, event: Event) -> None:
        task = event["task"]
        fields = self._fields.setdefault(task, {})
        fields.update(_numbers(event))
        if self._live is not None and task in self._bars:
            self._live.update(
                self._bars[task],
                completed=event["done"],
                total=event["total"],
                shown=_told(fields),
            )

    def _end(self, event: Event) -> None:
        task = event["task"]
        bar = self._bars.pop(task, None)
        if self._live is not None and bar is not None:
            self._live.remove_task(bar)
            if not self._bars:
                self._take_down()
        now = self._clock()
        took = duration(now - self._started.pop(task, now))
        told = _told(self._fields.pop(task, {}))
        self._line(f"{task}: {_done(event)} in {took}{'  ' if told else ''}{told}")

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(clean(text), markup=False, highlight=False, soft_wrap=True)
        else:
            self._stream.write(clean(text) + "\n")
            self._stream.flush()

    def _new_live(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=Console(file=self._stream, force_terminal=True),
            transient=True,
            # Lines that the command prints meanwhile go above the bars, unless stdout is a pipe.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=False,
        )

    def _take_down(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._bars.clear()


def _numbers(event: Event) -> dict[str, Any]:
    known = ("t", "kind", "task", "done", "total", "unit")
    return {name: value for name, value in event.items() if name not in known}


def _told(fields: dict[str, Any]) -> str:
    return "  ".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: Any) -> str:
    if isinstance(value, int | float):
        return FIELDS[name](value) if name in FIELDS else f"{name} {number(value)}"
    return clean(f"{name} {value}")


def _done(event: Event) -> str:
    done, total, unit = event["done"], event["total"], event["unit"]
    if total and done < total:
        return f"{_amount(done, '')} of {_amount(total, unit)}"
    return _amount(done, unit) if done else "done"


def _amount(value: float, unit: str) -> str:
    if unit in ("B", "bytes"):
        return size(value)
    return f"{number(value)} {unit}".rstrip()
