"""`nexa replay`: train again what a run trained, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.orchestrate.replay import Replay
    from nexa.orchestrate.replay_compare import MetricDistance


@click.command()
@click.argument("run", default="latest")
@click.option("--dry-run", is_flag=True, help="Show what would be trained and how long it took.")
@click.option(
    "--seeds",
    type=click.IntRange(min=2, max=64),
    help="Train by so many other seeds too, to hold the metrics against their spread. "
    "Left out: 3 on a GPU, none on a processor.",
)
@output_options
def replay(out: Output, run: str, dry_run: bool, seeds: int | None) -> None:
    """Train again what a run trained, and compare.

    RUN is a run's id, its beginning or `latest`. Its config.yaml, rows, base model and automatic
    choices are those that are recorded; nothing of the run is touched. The exit code is 0 where
    the weights are equal, bit for bit, and 10 where they are not.
    """
    project = Path.cwd()
    if dry_run:
        from nexa.orchestrate.replay import outline

        planned = outline(run, project)
        out.show(planned, lambda: out.pairs(_told(planned)))
        return
    from nexa.orchestrate.replay import replay as train_again

    found = train_again(run, project, seeds=seeds)
    record = found.to_json() | {"exit_code": found.exit_code}
    out.show(record, lambda: _tell(out, found))
    click.get_current_context().exit(found.exit_code)


def _told(planned: dict[str, Any]) -> dict[str, Any]:
    """The plan for people."""
    from nexa.cli.format import duration

    took = planned["took"]
    return planned | {
        "took": "not known: the run's log does not say" if took is None else duration(took),
        "differs": "\n".join(planned["differs"]) or "nothing that bits hang on",
    }


def _tell(out: Output, found: Replay) -> None:
    """The verdict first, then what it rests on."""
    from nexa.cli.format import duration

    then = "" if found.took_s is None else f", {duration(found.took_s)} then"
    out.say(f"Run {found.run_id}, {found.losses.steps_now} steps: {duration(found.seconds)}{then}")
    if found.sha256_now == found.sha256_then:
        out.say("Equal: the weights are those of the run, bit for bit.", fg="green", bold=True)
    elif found.equal:
        text = "Equal but for what seeds make: a GPU does not give equal bits."
        out.say(text, fg="green", bold=True)
    else:
        out.say("Different: these are not the weights of the run.", fg="red", bold=True)
    out.pairs(_facts(found))
    if found.metrics:
        columns = ["metric", "then", "now", "apart", "seeds make"]
        out.table(columns, [_row(metric) for metric in found.metrics])


def _facts(found: Replay) -> dict[str, str]:
    """Weights and losses of both, and what else is not alike."""
    facts = {"sha256": found.sha256_then}
    if found.sha256_now != found.sha256_then:
        facts = {"sha256 then": found.sha256_then, "sha256 now": found.sha256_now}
    apart = found.losses
    if apart.steps_then != apart.steps_now:
        facts["steps"] = f"{apart.steps_then} then, {apart.steps_now} now"
    if apart.at_step is None:
        facts["losses"] = f"equal in all {apart.steps} steps"
    else:
        facts["losses"] = (
            f"apart from step {apart.first_step} on, farthest at step {apart.at_step}: "
            f"{apart.largest:.2g} nats a token"
        )
    lines = [*found.differs, *found.changed]
    return facts | {f"differs {i}": line for i, line in enumerate(lines, start=1)}


def _row(metric: MetricDistance) -> list[str | float]:
    apart = abs(metric.now - metric.then)
    return [metric.metric, metric.then, metric.now, apart, f"up to {metric.allowed:.4g}"]
