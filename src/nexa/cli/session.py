"""`nexa login`, `logout` and `session`: a Hub token in memory, on no disk."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nexa.cli.lazy import LazyGroup
from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.core.secrets import Secret
    from nexa.session import SessionStatus

COMMANDS = {
    "Session": {
        "start": ("nexa.cli.session:start", "Start the token server; nexa login does it too."),
        "status": ("nexa.cli.session:status", "Show whether there is a token, and until when."),
        "clear": ("nexa.cli.session:clear", "Forget the token and leave the server running."),
    }
}
session = LazyGroup("session", COMMANDS, help="Look at the session that keeps the Hub token.")
# Longer than any token; what is longer is a file piped by mistake.
MAX_TOKEN_BYTES = 4096


@click.command()
@click.option("--no-validate", is_flag=True, help="Do not ask the Hub whether the token is good.")
@click.option(
    "--ttl",
    "ttl_hours",
    type=click.FloatRange(min=0, max=168, min_open=True),
    default=8.0,
    show_default=True,
    metavar="HOURS",
    help="How long the session keeps the token.",
)
@output_options
def login(out: Output, no_validate: bool, ttl_hours: float) -> None:
    """Keep a Hub token in memory for this session.

    The token is asked for without being shown, or read from standard input when that is a pipe.
    It is never written to a disk; nexa logout, the end of its time or a restart forgets it.
    """
    from nexa import session as server
    from nexa.core.events import emit
    from nexa.core.secrets import SESSION, hub_token

    token = read_token()
    server.login(token, validate=not no_validate, ttl_hours=ttl_hours)
    first = hub_token()
    if first is not None and first.source != SESSION:
        emit("note", text=f"{first.source} comes before the session: its token is the one used")
    _show(out, server.status(), "Logged in")


@click.command()
@output_options
def logout(out: Output) -> None:
    """Forget the token and end its server."""
    from nexa import session as server

    had = server.logout()
    _tell(
        out, {"cleared": had}, "Logged out: the token is forgotten" if had else "There was no token"
    )


@click.command()
@output_options
def start(out: Output) -> None:
    """Start the token server; nexa login does it too."""
    from nexa import session as server

    _show(out, server.start(), "The session runs")


@click.command()
@output_options
def status(out: Output) -> None:
    """Show whether there is a token, and until when."""
    from nexa import session as server

    found = server.status()
    _show(out, found, "The session runs" if found.running else "No session runs")


@click.command()
@output_options
def clear(out: Output) -> None:
    """Forget the token and leave the server running."""
    from nexa import session as server

    had = server.clear()
    _tell(out, {"cleared": had}, "The token is forgotten" if had else "There was no token")


def read_token() -> Secret:
    """The token from a prompt that shows nothing, or from a pipe.

    Raises:
        AccessError: what came is no token.
        UsageError: the terminal cannot hide what is typed.
    """
    from nexa.core.secrets import token_from

    if sys.stdin.isatty():
        return token_from(_ask(), "the prompt")
    raw = sys.stdin.buffer.read(MAX_TOKEN_BYTES)
    return token_from(raw.decode("utf-8", errors="replace"), "standard input")


def _ask() -> str:
    import getpass
    import warnings

    from nexa.core.errors import UsageError

    with warnings.catch_warnings():
        # getpass would warn, and then show what is typed.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass("Hub token (not shown; Ctrl-C stops): ")
        except getpass.GetPassWarning as error:
            raise UsageError(
                "this terminal cannot hide what is typed",
                fix="pipe it in from where you keep it: ... | nexa login",
            ) from error


def _show(out: Output, found: SessionStatus, title: str) -> None:
    """One status, for people and for programs."""
    from nexa.cli.format import duration

    def tell() -> None:
        out.say(title, bold=True)
        if found.has_token:
            out.pairs(
                {
                    "token": found.masked,
                    "name": found.name or "not asked (--no-validate)",
                    "role": found.role,
                    "expires in": duration(found.expires_in_s or 0),
                }
            )
        else:
            out.pairs({"token": "expired: nexa login" if found.expired else "none: nexa login"})

    out.show(asdict(found), tell)


def _tell(out: Output, record: dict[str, bool], text: str) -> None:
    out.show(record, lambda: out.say(text))
