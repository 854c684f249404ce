"""Commands that end in every way a command can, for tests of the shell itself."""

from __future__ import annotations

import click

from nexa.cli.lazy import LazyGroup
from nexa.cli.show import Output, output_options
from nexa.core.errors import DataError, StorageError
from nexa.core.events import emit, progress


@click.command()
@click.argument("end")
@output_options
def finish(out: Output, end: str) -> None:
    """End in a chosen way."""
    if end == "data":
        raise DataError("row \x1b[31m7 is bad", found="no target", fix="mend it")
    if end == "storage":
        raise StorageError("cannot write out", found="0 GB free")
    if end == "mistake":
        raise ZeroDivisionError("hf_" + "a" * 30)
    if end == "stop":
        raise KeyboardInterrupt
    if end == "exit":
        click.get_current_context().exit(3)
    if end == "pipe":
        raise BrokenPipeError(32, "broken pipe")
    with progress("counting", total=2, unit="rows") as bar:
        bar.advance(2, loss=0.5)
    emit("note", text="a note")
    emit("other.kind", detail="hidden")
    out.show({"end": end}, lambda: out.say(f"ended {end}"))


@click.command()
def twice() -> None:
    """Do it twice."""


group = LazyGroup(
    "group",
    {"Ends": {"finish": ("tests.cli.sample:finish", "End in a chosen way.")}},
    aliases={"end": "finish"},
    help="A group of samples.",
)
