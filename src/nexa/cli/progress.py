"""The terminal's sink of `nexa.core.events`: progress bars, or plain lines in a pipe.

On a terminal every running task has one live line: a bar, the time that is left and its newest
numbers; it shrinks to a plain line when the task ends. In a pipe a task is its start and its end,
and a line a minute between them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from nexa.cli.format import clean, duration, number, rate, size
from nexa.core.events import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# How the fields of a progress event are told, the most important first: a narrow terminal cuts
# the end off. A field that is not here comes after them, by its name.
FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "loss": lambda told: f"loss {told['loss']:.3f}",
    "validation_loss": lambda told: f"validation {told['validation_loss']:.3f}",
    "tokens_per_s": lambda told: f"{told['tokens_per_s']:,.0f} tokens/s{_share(told)}",
    "memory_bytes": lambda told: size(told["memory_bytes"]),
    "cost_usd": lambda told: f"{told['cost_usd']:.2f} USD",
    "lr": lambda told: f"lr {rate(told['lr'])}",
}
WITH_OTHERS = frozenset({"limit_tokens_per_s"})  # told beside another field
BYTES = ("B", "bytes")  # units that are told as sizes
LINE_EVERY_S = 60.0  # of a task under way, in a pipe
# Columns of the terminal -> of a bar; the numbers are worth more than the bar.
BAR_WIDTHS = {130: 30, 100: 15, 0: 8}
# What a step is called while it is made.
STEPS = {
    "prepare": "Preparing data",
    "freeze": "Freezing the evaluation suite",
    "generate": "Asking the held-out questions",
    "finetune": "Training",
    "merge": "Merging, and proving the merge",
    "merge_models": "Merging models, and proving the merge",
    "merge_adapters": "Merging adapters, and proving the merge",
    "convert": "Converting, and proving the result",
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


@dataclass
class Task:
    """One task under way, as the sink knows it."""

    begun: float  # by the sink's clock
    told: float  # when a line of it was last written
    first: tuple[float, float] | None = None  # when it first advanced, and how far it was then
    fields: dict[str, Any] = field(default_factory=dict)


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
        self._tasks: dict[str, Task] = {}
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
        self._task(event["task"])
        if self._terminal:
            if self._live is None:
                self._live = self._new_live()
                self._live.start()
            name = clean(event["task"])
            self._bars[event["task"]] = self._live.add_task(name, total=event["total"], shown="")
        else:
            total = f" ({_amount(event['total'], event['unit'])})" if event["total"] else ""
            self._line(f"{event['task']}{total} ...")

    def _advance(self, event: Event) -> None:
        name = event["task"]
        task = self._task(name)
        task.fields.update(_numbers(event))
        if self._live is not None and name in self._bars:
            self._live.update(
                self._bars[name],
                completed=event["done"],
                total=event["total"],
                shown="  ".join(_parts(task.fields)),
            )
        elif not self._terminal:
            self._tell_now_and_then(task, event)

    def _tell_now_and_then(self, task: Task, event: Event) -> None:
        """A line a minute: how far it is, how long it will take, its newest numbers."""
        now = self._clock()
        task.first = task.first or (now, event["done"])
        if now - task.told < LINE_EVERY_S or event["done"] == event["total"]:
            return
        text = f"{event['task']}: {_done(event)}{_left(*task.first, now, event)}"
        self._line("  ".join([text, *_parts(task.fields)]))
        task.told = now

    def _end(self, event: Event) -> None:
        name = event["task"]
        bar = self._bars.pop(name, None)
        if self._live is not None and bar is not None:
            self._live.remove_task(bar)
            if not self._bars:
                self._take_down()
        task = self._task(name)
        del self._tasks[name]
        took = duration(self._clock() - task.begun)
        self._line("  ".join([f"{name}: {_done(event)} in {took}", *_parts(task.fields)]))

    def _task(self, name: str) -> Task:
        """What is known of a task; one that began before this sink listened begins now."""
        if name not in self._tasks:
            now = self._clock()
            self._tasks[name] = Task(now, now)
        return self._tasks[name]

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
        from rich.table import Column

        console = Console(file=self._stream, force_terminal=True)
        width = next(w for least, w in BAR_WIDTHS.items() if console.width >= least)
        # The numbers take what is left of the line, and are cut off where it ends.
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=width),
            TaskProgressColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}", markup=False, table_column=rest),
            console=console,
            expand=True,
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


def _parts(fields: Mapping[str, Any]) -> list[str]:
    """Every field that has a value, the known ones first."""
    known = {name: value for name, value in fields.items() if value is not None}
    others = [name for name in known if name not in FIELDS and name not in WITH_OTHERS]
    parts = [tell(known) for name, tell in FIELDS.items() if name in known]
    return parts + [_other(name, known[name]) for name in others]


def _other(name: str, value: Any) -> str:
    return f"{name} {number(value)}" if isinstance(value, int | float) else clean(f"{name} {value}")


def _share(fields: Mapping[str, Any]) -> str:
    """How near the speed is to what the machine could reach on this work."""
    limit = fields.get("limit_tokens_per_s")
    return f", {fields['tokens_per_s'] / limit:.0%} of the machine's limit" if limit else ""


def _left(begin: float, first: float, now: float, event: Event) -> str:
    """How long it will take, by the speed since its first advance."""
    done, total = event["done"] - first, event["total"]
    if not total or done <= 0 or now <= begin:
        return ""
    return f", {duration((total - event['done']) * (now - begin) / done)} left"


def _done(event: Event) -> str:
    done, total, unit = event["done"], event["total"], event["unit"]
    if total and done < total:
        return f"{_amount(done, unit if unit in BYTES else '')} of {_amount(total, unit)}"
    return _amount(done, unit) if done else "done"


def _amount(value: float, unit: str) -> str:
    if unit in BYTES:
        return size(value)
    return f"{number(value)} {unit}".rstrip()
