"""After the confirmation: the commands that the answers stand for, run as if they were typed."""

from __future__ import annotations

import contextlib
import io
import json
from contextvars import Context
from pathlib import Path
from typing import Any

import click

from nexa.cli.show import Output
from nexa.cli.wizard.answers import Answers, Commands, typed
from nexa.core.config import load_config
from nexa.core.errors import NexaError
from nexa.orchestrate.start.init import CONFIG


def run(
    out: Output, answers: Answers, project: Path, *, keep_config: bool = False, force: bool = False
) -> None:
    """Run every command; at the end, or where one fails, say what repeats or ends the work.

    Raises:
        NexaError: of the command that failed.
    """
    place = load_config(project / CONFIG).training.output_dir if keep_config else None
    commands = answers.commands(keep_config=keep_config, output_dir=place)
    results: dict[str, Any] = {}
    for done, words in enumerate(commands):
        out.say()
        out.say(f"$ {typed(words)}", bold=True)
        own = [*words, "--force"] if force and words[0] == "init" else words
        try:
            results[words[0]] = _run(out, own)
        except (NexaError, click.exceptions.Exit):
            _tell_rest(out, commands[done:])
            raise
    record = {
        "answers": answers.to_json(),
        "commands": [typed(words) for words in commands],
        "config": str(project / CONFIG),
        "results": results,
    }
    out.show(record, lambda: _tell_end(out, commands))


def _run(out: Output, words: list[str]) -> Any:
    """Run one command in this process; with --json its record is returned, not printed.

    Raises:
        Exit: it chose an exit code that is not 0.
    """
    from nexa.cli.main import app

    flags = {-1: ["-q"], 1: ["-v"]}.get(out.verbosity, [])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed) if out.as_json else contextlib.nullcontext():
        # In a context of its own: the command brings its own progress bars.
        code = Context().run(
            app.main,
            [*words, *flags, *(["--json"] if out.as_json else [])],
            prog_name="nexa",
            standalone_mode=False,
        )
    if isinstance(code, int) and code:
        raise click.exceptions.Exit(code)
    return json.loads(printed.getvalue()) if out.as_json else None


def _tell_rest(out: Output, commands: Commands) -> None:
    out.say()
    out.say("Still to be done, once that is mended:")
    for words in commands:
        out.say(f"  {typed(words)}")


def _tell_end(out: Output, commands: Commands) -> None:
    out.say()
    out.say(f"The same again, with the values and their reasons in {CONFIG}:")
    for words in commands:
        out.say(f"  {typed(words)}")
