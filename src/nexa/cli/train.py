"""`nexa train`: everything that config.yaml asks for, from data to report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.core.manifest import RunManifest


@click.command()
@click.argument("config", default="config.yaml", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the plan; train nothing, write nothing.")
@click.option(
    "--allow-inexact",
    is_flag=True,
    help="Go on from a checkpoint even where the same weights are not promised.",
)
@click.option("--no-check", is_flag=True, help="Train without the flight check (nexa check).")
@output_options
def train(out: Output, config: Path, dry_run: bool, allow_inexact: bool, no_check: bool) -> None:
    """Prepare data, train, merge, and score the base and what came out.

    A training that was stopped goes on from its newest checkpoint.
    """
    if dry_run:
        from nexa.orchestrate.plan import outline

        planned = outline(config)
        out.show(planned, lambda: out.pairs(planned))
        return
    from nexa.orchestrate.run import train as run_training

    show_run(
        out, run_training(config, allow_inexact=allow_inexact, check=not no_check), config.parent
    )


def show_run(out: Output, manifest: RunManifest, project: Path) -> None:
    """What a run that ended well shows: its scores, its verdict, its deliverables."""
    from nexa.orchestrate.reports import scores_of

    scores = scores_of(manifest, project)
    record = {"manifest": manifest.model_dump(mode="json", by_alias=True), "report": scores.record}
    out.show(record, lambda: _tell(out, manifest, scores.rows, scores.reason))


def _tell(out: Output, manifest: RunManifest, rows: list[list[str]], reason: str) -> None:
    """The end of the story: scores, verdict, and where the six deliverables are."""
    out.say()
    out.table(["metric", "base", "tuned", "difference"], rows)
    out.say()
    colour = {"improved": "green", "no evidence": "yellow"}.get(manifest.verdict or "", "red")
    out.say(f"Verdict: {manifest.verdict}", fg=colour, bold=True)
    out.say(f"  {reason}")
    out.say()
    out.say(f"Run {manifest.run_id} leaves")
    out.pairs(manifest.deliverables)
    out.say()
    for address in manifest.publications:
        out.say(f"Published: {address}", fg="green", bold=True)
        out.say(f"  check it with: nexa verify {address}")
    if not manifest.publications:
        out.say(f"Next: nexa publish --repo OWNER/NAME --hub local {manifest.output_dir}")
