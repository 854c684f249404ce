"""What a command shows: lines, blocks, tables, JSON.

Results go to stdout, progress and notes to stderr, so a pipe or `--json` carries results only.
Whatever comes from data is cleaned first: a file cannot steer the terminal or show a secret.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import click

from nexa.cli.format import clean, number, to_json
from nexa.cli.progress import Bars
from nexa.core.events import listening

Cell = str | int | float | None


class Output:
    """Where a command's words go. `as_json` leaves only JSON on stdout; `verbosity` is -1, 0, 1."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        verbosity: int = 0,
        stdout: TextIO | None = None,
        terminal: bool | None = None,
    ) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self._stdout = stdout
        self._terminal = terminal

    def say(self, text: str = "", **style: Any) -> None:
        """One line of the result, for people; `style` is click's (`bold=True`, `fg="green"`)."""
        if not self.as_json:
            if os.environ.get("NO_COLOR"):
                style = {name: value for name, value in style.items() if name not in ("fg", "bg")}
            click.secho(clean(text), file=self._out, color=self._terminal, **style)

    def pairs(self, pairs: Mapping[str, Cell], *, indent: int = 2) -> None:
        """Names and values, one a line, values under each other."""
        width = max((len(name) for name in pairs), default=0) + 2
        for name, value in pairs.items():
            self.say(f"{'':{indent}}{name:<{width}}{_cell(value)}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Rows under headings: ruled on a terminal, plain aligned text in a pipe."""
        if self.as_json:
            return
        cells = [[clean(_cell(cell)).replace("\n", " ") for cell in row] for row in rows]
        if self._is_terminal():
            self._rich_table(columns, cells)
            return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in [list(columns), *cells]:
            line = "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))
            self.say(line.rstrip())

    def prompt(self, text: str) -> None:
        """What stands before the user's own words: no line of its own."""
        if not self.as_json:
            click.echo(clean(text), file=self._out, nl=False, color=self._terminal)

    def stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """Show text as it comes, and a line's end after it; hands every piece on."""
        for piece in pieces:
            self.prompt(piece)
            yield piece
        self.say()

    def show(self, record: Any, human: Callable[[], None]) -> None:
        """The one result of a command: `record` with --json, else whatever `human` says."""
        if self.as_json:
            click.echo(to_json(record), file=self._out)
        else:
            human()

    @property
    def _out(self) -> TextIO:
        return self._stdout or sys.stdout  # looked up late: progress bars wrap sys.stdout

    def _is_terminal(self) -> bool:
        return self._out.isatty() if self._terminal is None else self._terminal

    def _rich_table(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD)
        for column in columns:
            table.add_column(Text(column))
        for row in cells:
            table.add_row(*map(Text, row))
        Console(file=self._out, force_terminal=True, highlight=False).print(table)


def output_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command --json, -v and -q, an `Output` as first argument, and its events a sink."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
    @click.option("-v", "--verbose", is_flag=True, help="Tell every event; tracebacks on errors.")
    @click.option("-q", "--quiet", is_flag=True, help="Only the result: no progress, no notes.")
    @functools.wraps(function)
    def run(*, as_json: bool, verbose: bool, quiet: bool, **parameters: Any) -> None:
        verbosity = int(verbose) - int(quiet)
        with Bars(verbosity=verbosity) as bars, listening(bars):
            function(Output(as_json=as_json, verbosity=verbosity), **parameters)

    return run


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else number(value)
