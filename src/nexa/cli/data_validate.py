"""`nexa data validate`: rows against their type; `nexa data schema`: the types themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa.cli.show import Output, output_options
from nexa.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from nexa.data.validate import FileReport, Report

MOST_KINDS = 20
WHOLE = "(row)"  # what the empty JSON pointer means


@click.command()
@click.argument("data", metavar="DATA...", nargs=-1, required=True)
@click.option("--type", "type_name", metavar="TYPE", help="sft, chat, preference, distill, ...")
@click.option(
    "--schema",
    metavar="FILE.json",
    type=click.Path(path_type=Path),
    help="A JSON Schema of your own instead.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many bad rows to tell; 0: all. Every one is counted.",
)
@output_options
def validate(
    out: Output, data: tuple[str, ...], type_name: str | None, schema: Path | None, limit: int
) -> None:
    """Check every row against its dataset type, or a schema of yours.

    DATA is files, folders, patterns, addresses or Hub datasets. The type is told from the rows
    where it is not given. Each bad row is told with its line, the place in it and what is wrong
    there. The exit code is 0 when every row is good.
    """
    from nexa.data.validate import validate as check
    from nexa.orchestrate.data_files import named_files

    if type_name is not None and schema is not None:
        raise UsageError("--type and --schema are two ways to say the same", fix="give one of them")
    report = check(named_files(data), type_name=type_name, schema=schema, limit=limit or None)
    out.show(report.to_json(), lambda: _tell(out, report))
    click.get_current_context().exit(0 if report.passed else DataError.exit_code)


@click.command()
@click.argument("type_name", metavar="[TYPE]", required=False)
@output_options
def schema(out: Output, type_name: str | None) -> None:
    """Print the JSON Schema of a dataset type.

    Without a TYPE it lists them.
    """
    from nexa.data.schemas.types import dataset_types
    from nexa.data.validate import type_named

    if type_name is None:
        types = dataset_types()
        out.show(
            {name: type_.meaning for name, type_ in types.items()},
            lambda: out.pairs({name: type_.meaning for name, type_ in types.items()}, indent=0),
        )
        return
    Output(as_json=True).show(type_named(type_name).json_schema, lambda: None)


def _tell(out: Output, report: Report) -> None:
    """Every file, its first bad rows, and the faults by kind."""
    for file in report.files:
        _tell_file(out, file)
    out.pairs({"rows": report.rows, "bad": report.bad}, indent=0)
    for group, count in report.kinds.most_common(MOST_KINDS):
        out.say(f"  {count:>8,}  {group}")
    if report.passed:
        out.say("every row is good", fg="green", bold=True)


def _tell_file(out: Output, file: FileReport) -> None:
    told = f" is checked as {file.type}: {file.evidence}" if file.type else ""
    out.say(f"{file.name}{told}", bold=True)
    for row in file.shown:
        for fault in row.faults:
            out.say(f"  {row.origin}  {fault.pointer or WHOLE}  {fault.problem}")
    hidden = file.bad - len(file.shown)
    if hidden:
        out.say(f"  and {hidden:,} more bad rows (--limit 0 tells all)")
    for key, count in file.unused.most_common(MOST_KINDS):
        out.say(f"  key {key!r} is not used ({count:,} rows)", dim=True)
    for line in file.unreadable.splitlines():
        out.say(f"  {line}", fg="red")
