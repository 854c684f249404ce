"""`nexa`: the table of commands, and the one place where an error becomes text and an exit code.

The table is literal and its commands are imported only when they run, so that `nexa --help` costs
an import of click and nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import click

from nexa import __version__
from nexa.cli.lazy import LazyGroup, Table
from nexa.cli.redacted import redact_streams
from nexa.core.errors import NexaError, UsageError
from nexa.core.interrupts import Interrupted

COMMANDS: Table = {
    "From data to a published model": {
        "guide": (
            "nexa.cli.wizard.guided:guide",
            "Ask what is needed, then train, evaluate and publish.",
        ),
        "init": ("nexa.cli.init:init", "Write a config.yaml that fits a model and your data."),
        "train": (
            "nexa.cli.train:train",
            "Prepare data, train, merge, and score the base and what came out.",
        ),
        "distill": (
            "nexa.cli.distill:distill",
            "Have a teacher answer prompts, and train a student on the answers.",
        ),
        "resume": ("nexa.cli.resume:resume", "Go on with a training that was stopped."),
        "publish": (
            "nexa.cli.publish:publish",
            "Publish a model with its card and the proof of its numbers.",
        ),
    },
    "Data": {
        "data": ("nexa.cli.data:data", "Prepare data and look at it."),
    },
    "Weights": {
        "export": (
            "nexa.cli.export:export",
            "Write a model as safetensors or GGUF, and prove that nothing broke.",
        ),
        "merge": (
            "nexa.cli.merge:merge",
            "Merge an adapter into its base, or several models or adapters into one.",
        ),
        "parity": (
            "nexa.cli.parity:parity",
            "Compare an export with the model it was made from, check by check.",
        ),
    },
    "Evaluate": {
        "eval": (
            "nexa.cli.evaluate:evaluate",
            "Score models on the same held-out rows; several also beside the first.",
        ),
        "compare": (
            "nexa.cli.evaluate:compare",
            "Compare two models on the same rows, B minus A; either may be behind an API.",
        ),
        "leaderboard": (
            "nexa.cli.leaderboard:leaderboard",
            "Show models beside each other, one board a suite and seal.",
        ),
        "judge": (
            "nexa.cli.judge:judge",
            "Have a model grade answers by a rubric; of a run base and tuned, in a report.",
        ),
        "chat": (
            "nexa.cli.evaluate:chat",
            "Talk to a model; an empty line or Ctrl-D ends it.",
        ),
    },
    "Improve": {
        "improve": (
            "nexa.cli.improve:improve",
            "Add rows where the model is weak, train again, and keep what is better.",
        ),
        "feedback": (
            "nexa.cli.improve:feedback",
            "Make a new version of a dataset with rows where its model is weak.",
        ),
    },
    "Session": {
        "login": ("nexa.cli.session:login", "Keep a Hub token in memory for this session."),
        "logout": ("nexa.cli.session:logout", "Forget the token and end its server."),
        "session": (
            "nexa.cli.session:session",
            "Look at the session that keeps the Hub token.",
        ),
    },
    "Look and check": {
        "check": (
            "nexa.cli.check:check",
            "Look for all that would stop a run, or spoil it, before it starts.",
        ),
        "doctor": ("nexa.cli.doctor:doctor", "Look at this machine: what is here, what is wrong."),
        "runs": ("nexa.cli.runs:runs", "Show the runs of this project."),
        "lineage": (
            "nexa.cli.runs:lineage",
            "Show what a run's report, or any artifact, grew from.",
        ),
        "verify": (
            "nexa.cli.verify:verify",
            "Read every byte again: of a run, an artifact, a published folder, or everything.",
        ),
        "replay": (
            "nexa.cli.replay:replay",
            "Train again what a run trained, and compare.",
        ),
    },
}
ALIASES = {"push": "publish"}

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: an error inside nexa, not in what it was given

# New objects before Python looks for cycles among them, and looks that pass before it takes in the
# older ones. Its own (700, 10, 10) walk through all that torch and transformers define again and
# again while they are imported: 0.4 s of 2.0 s.
COLLECT_AFTER = (50_000, 20, 100)

app = LazyGroup(
    "nexa",
    COMMANDS,
    aliases=ALIASES,
    alone="guide",
    help="From a data file to a fine-tuned, evaluated, published language model.",
    epilog="Exit codes: 0 done, 130 Ctrl-C, 143 SIGTERM, others by kind of error (docs/cli.md).",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(__version__, prog_name="nexa")(app)


def run(end: Callable[[int], object] = os._exit) -> None:
    """The process `nexa`: one command line, then the end with its exit code."""
    gc.set_threshold(*COLLECT_AFTER)
    leave(main(), end)


def leave(code: int, end: Callable[[int], object] = os._exit) -> None:
    """End the process in order, but leave its memory to the system.

    Threads that are no daemons are waited for, what was registered for the end is called (weakref's
    finalizers too) and what was printed is pushed out, as the interpreter does it. What it would do
    after that, taking every module and object apart, takes 0.5 s once torch was imported.

    Raises:
        SystemExit: standard output or error cannot be flushed; the interpreter tells of it.
    """
    private: Any = threading, atexit
    private[0]._shutdown()
    private[1]._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    end(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code and never shows a bare traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    redact_streams()
    try:
        code = app.main(words, prog_name="nexa", standalone_mode=False)
        _flush()
        return code if isinstance(code, int) else 0
    except click.Abort as abort:
        return _tell_stopped(words, abort)
    except click.ClickException as error:
        return _tell_error(words, _usage_error(error))
    except NexaError as error:
        return _tell_error(words, error)
    except Exception as error:  # the last resort: a mistake of nexa's own
        return _tell_unexpected(words, error)


def _tell_stopped(words: list[str], abort: click.Abort) -> int:
    """Ctrl-C or SIGTERM: with the exit code of the signal, and how to go on if that is known."""
    what = str(abort) or "stopped; what was finished is kept"
    stop = abort.__cause__
    if isinstance(stop, Interrupted):
        return _tell(words, "Interrupted", stop.exit_code, what, stop.found, stop.fix)
    return _tell(words, "Interrupted", INTERRUPTED, what)


def _tell_error(words: list[str], error: NexaError) -> int:
    if os.environ.get("NEXA_DEBUG"):
        _show_traceback(error)
    kind, code = type(error).__name__, error.exit_code
    return _tell(words, kind, code, error.what, error.found, error.fix)


def _tell_unexpected(words: list[str], error: Exception) -> int:
    import traceback  # here, because it is 15 ms that no good end needs

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}nexa{os.sep}" in frame.filename] or frames
    place = own[-1]
    fix = "the same command with -v (or NEXA_DEBUG=1) shows the traceback; please report it"
    if os.environ.get("NEXA_DEBUG") or _flag(words, "v", "--verbose"):
        _show_traceback(error)
        fix = "please report the traceback above"
    what = f"nexa failed unexpectedly: {type(error).__name__}: {error}"
    found = f"{os.path.basename(place.filename)}:{place.lineno} in {place.name}"
    return _tell(words, type(error).__name__, UNEXPECTED, what, found, fix)


def _tell(
    words: list[str],
    kind: str,
    code: int,
    what: str,
    found: str | None = None,
    fix: str | None = None,
) -> int:
    """The three lines on stderr, or with --json one object on stdout; returns the exit code."""
    from nexa.cli.format import clean, to_json

    if _flag(words, "", "--json"):
        told = {"type": kind, "exit_code": code, "what": what, "found": found, "fix": fix}
        click.echo(to_json({"error": told}))
    else:
        first, *rest = clean(str(NexaError(what, found=found, fix=fix))).splitlines()
        colour = None if os.environ.get("NO_COLOR") else "red"
        click.echo("\n".join([click.style(first, fg=colour, bold=True), *rest]), err=True)
    return code


def _usage_error(error: click.ClickException) -> UsageError:
    """Click's own complaint in nexa's form."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return UsageError(
        error.format_message(), fix=f"{context.command_path if context else 'nexa'} --help"
    )


def _flag(words: list[str], letter: str, name: str) -> bool:
    """Whether a flag stands in the command line, however far click came in reading it."""
    own = words[: words.index("--")] if "--" in words else words
    short = [word for word in own if word.startswith("-") and not word.startswith("--")]
    return name in own or bool(letter and any(letter in word for word in short))


def _show_traceback(error: BaseException) -> None:
    import traceback

    from nexa.cli.format import clean

    click.echo(clean("".join(traceback.format_exception(error))), err=True)


def _flush() -> None:
    """Push out what was printed; a reader that has gone (`| head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more at exit; the rest goes nowhere instead.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
