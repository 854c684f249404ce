"""`nexa resume`: go on with a training that was stopped or killed."""

from __future__ import annotations

from pathlib import Path

import click

from nexa.cli.show import Output, output_options


@click.command()
@click.argument("run", required=False)
@click.option(
    "--allow-inexact",
    is_flag=True,
    help="Go on even where the same weights are not promised.",
)
@output_options
def resume(out: Output, run: str | None, allow_inexact: bool) -> None:
    """Go on with a training that was stopped.

    RUN is a run's id or its beginning; left out, it is the newest training. It is taken up with
    the config.yaml it had, from its newest checkpoint. `nexa train` with the same config.yaml
    does so too.
    """
    from nexa.cli.train import show_run
    from nexa.orchestrate.resume import resume as go_on

    project = Path.cwd()
    show_run(out, go_on(run, project, allow_inexact=allow_inexact, check=True), project)
