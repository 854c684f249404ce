"""`nexa doctor`: the machine, the libraries, the disks, the credentials' sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.orchestrate.start.doctor import Diagnosis

BROKEN = 1  # the exit code where something will fail


@click.command()
@click.option("--network", is_flag=True, help="Also ask the Hub whether it can be reached.")
@output_options
def doctor(out: Output, network: bool) -> None:
    """Look at this machine: what is here, what is wrong.

    It says what to do about what is wrong. Nothing is changed, and no credential is shown: only
    where each comes from. Ends with 1 where something is broken.
    """
    from nexa.orchestrate.start.doctor import examine

    found = examine(Path.cwd(), network=network)
    out.show(found.to_json(), lambda: _tell(out, found))
    click.get_current_context().exit(BROKEN if found.broken else 0)


def _tell(out: Output, found: Diagnosis) -> None:
    """A table of everything, then what to do where something is to be done."""
    rows = [[line.section, line.name, line.state, line.value] for line in found.lines]
    out.table(["part", "what", "state", "found"], rows)
    for line in found.lines:
        if line.state != "ok" and line.fix:
            out.say()
            colour = "red" if line.state == "broken" else "yellow"
            out.say(f"{line.section}, {line.name}: {line.value}", fg=colour, bold=True)
            out.say(f"  try    {line.fix}")
    out.say()
    broken = len(found.broken)
    out.say(f"{broken} broken" if broken else "Nothing is broken.", bold=True)
