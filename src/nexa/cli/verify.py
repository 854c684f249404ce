"""`nexa verify`: whether anything was changed since it was made."""

from __future__ import annotations

from pathlib import Path

import click

from nexa.cli.show import Output, output_options


@click.command()
@click.argument("what", required=False, metavar="[RUN|KIND/NAME|FOLDER]")
@click.option(
    "--expect", metavar="DIGEST", help="For a published folder: the digest that publish printed."
)
@output_options
def verify(out: Output, what: str | None, expect: str | None) -> None:
    """Read every byte again: of a run, an artifact, a published folder, or everything.

    RUN is a run's id, its beginning or `latest`; KIND/NAME[@vN] an artifact as `nexa lineage`
    shows it, with all that it grew from.
    """
    from nexa.orchestrate.verifying.verify import verify as verify_it

    found = verify_it(what, Path.cwd(), expect)

    def tell() -> None:
        for check in found.checks:
            out.say(f"  ok  {check}")
        for note in found.notes:
            out.say(f"  --  {note}")
        out.say(f"{found.subject}: nothing was changed since it was made.", fg="green")
        out.say("This proves integrity, not who made it.")

    record = {"subject": found.subject, "checks": found.checks, "notes": found.notes}
    out.show(record, tell)
