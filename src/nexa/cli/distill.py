"""`nexa distill`: from a teacher to a trained student, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.data_distill import answer_options
from nexa.cli.show import Output, output_options
from nexa.cli.teaching import preview_pairs, teacher_options

if TYPE_CHECKING:
    from nexa.orchestrate.distill import Plan
    from nexa.orchestrate.teaching import Choice


@click.command()
@teacher_options
@click.option(
    "--student", metavar="MODEL", help="What is trained; left out: the model of config.yaml."
)
@click.option(
    "--data",
    "prompts",
    default="",
    metavar="DATASET|DATA",
    help="The prompts; left out: data.train_path of config.yaml.",
)
@answer_options
@click.option("--dry-run", is_flag=True, help="Tokens, dollars and time; send and train nothing.")
@output_options
def distill(
    out: Output, choice: Choice, student: str | None, prompts: str, dry_run: bool, **how: Any
) -> None:
    """Have a teacher answer prompts, and train a student on the answers.

    Everything else is as in nexa train, by the config.yaml of this folder if there is one. The
    same command goes on where it was stopped: no answer is paid for twice.
    """
    from nexa.cli.train import show_run
    from nexa.orchestrate.distill import distill as run_distillation
    from nexa.orchestrate.distill import preview_distillation
    from nexa.orchestrate.distill_data import Answers

    answers, project = Answers(prompts, **how), Path.cwd()
    if dry_run:
        found = preview_distillation(choice, student, answers, project)
        out.show(found.to_json(), lambda: _tell_plan(out, found))
        return
    show_run(out, run_distillation(choice, student, answers, project), project)


def _tell_plan(out: Output, found: Plan) -> None:
    out.pairs(preview_pairs(found.teaching))
    out.pairs(
        {
            "student": found.student,
            "dataset": found.dataset,
            "held out": found.held_out,
            "training": found.training,
        }
    )
    out.say("Nothing was sent, nothing was trained.")
