"""A click group whose commands are a literal table and are imported only when they are run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from nexa.core.errors import UsageError, nearest

# section -> command -> ("module:attribute", its one line of help)
Table = Mapping[str, Mapping[str, tuple[str, str]]]


class LazyGroup(click.Group):
    """Shows its commands without importing one; a word it does not know gets the nearest name.

    `aliases` maps a second name of a command to its first one. `alone` is the command that the
    group itself is on a terminal; in a pipe, and without one, it prints its help.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        *,
        help: str,
        aliases: Mapping[str, str] | None = None,
        alone: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            name,
            help=help,
            callback=_when_alone,
            invoke_without_command=True,
            subcommand_metavar="COMMAND ...",
            **options,
        )
        self.table = table
        self.aliases = aliases or {}
        self.alone = alone
        self._targets = {word: line[0] for _, word, line in self.lines()}

    def lines(self) -> Iterator[tuple[str, str, tuple[str, str]]]:
        """Every command as (section, name, (target, help)), in the table's order."""
        for section, commands in self.table.items():
            for word, line in commands.items():
                yield section, word, line

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name or alias, imported, or None."""
        name = self.aliases.get(cmd_name, cmd_name)
        return self.load(name) if name in self._targets else None

    def load(self, name: str) -> click.Command:
        """Import a command that the table has."""
        module, _, attribute = self._targets[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names.

        Raises:
            UsageError: no command has this name; says the nearest one.
        """
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            near = nearest(word, [*self._targets, *self.aliases])
            raise UsageError(
                f"there is no command {f'{ctx.command_path} {word}'!r}",
                found=None if near else "known: " + ", ".join(self._targets),
                fix=f"{ctx.command_path} {near}" if near else f"{ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, section by section."""
        seconds = {first: second for second, first in self.aliases.items()}
        for section, commands in self.table.items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (f"{word}, {seconds[word]}" if word in seconds else word, text)
                        for word, (_, text) in commands.items()
                    ]
                )


def _when_alone(**_: Any) -> None:
    """What a group does without a command."""
    ctx = click.get_current_context()
    group = ctx.command
    if ctx.invoked_subcommand is not None:
        return
    if isinstance(group, LazyGroup) and group.alone and sys.stdin.isatty() and sys.stdout.isatty():
        command = group.load(group.alone)
        with command.make_context(group.alone, [], parent=ctx) as inner:
            command.invoke(inner)
    else:
        click.echo(ctx.get_help())
