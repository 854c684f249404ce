"""`nexa data distill`: a teacher's answers to prompts, as a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Output, output_options
from nexa.cli.teaching import synthetic_pairs, teacher_options, tell_preview

if TYPE_CHECKING:
    from nexa.orchestrate.distill_data import Distilled
    from nexa.orchestrate.teaching import Choice


def answer_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of how prompts are answered."""
    for option in (
        click.option(
            "--rows",
            type=click.IntRange(min=1),
            metavar="N",
            help="The first so many prompts; left out: all.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling."),
        click.option(
            "--temperature",
            type=click.FloatRange(min=0, max=2),
            default=0.0,
            show_default=True,
            help="How far answers vary.",
        ),
        click.option(
            "--system",
            default="",
            metavar="TEXT",
            help="Said to the teacher before every prompt; not trained.",
        ),
        click.option(
            "--max-new-tokens",
            type=click.IntRange(min=1),
            default=1024,
            show_default=True,
            help="Of one answer; a longer one is cut off and gives no row.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("prompts", metavar="DATASET|DATA")
@teacher_options
@answer_options
@click.option("--dataset", "dataset_id", metavar="ID", help="What the new dataset is called.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that gets the rows too, as JSON lines.",
)
@click.option("--model", metavar="MODEL", help="Whose tokens are counted; else config.yaml's.")
@click.option("--dry-run", is_flag=True, help="Rows, requests, tokens, dollars; send nothing.")
@output_options
def distill(
    out: Output,
    choice: Choice,
    prompts: str,
    dataset_id: str | None,
    output: Path | None,
    model: str | None,
    dry_run: bool,
    **how: Any,
) -> None:
    """Have a teacher answer prompts: a dataset of its answers.

    The prompts are those of a dataset's training rows, or of files: rows with or without answers,
    text with a prompt a line. Held-out prompts are not asked. The same command goes on where it
    was stopped.
    """
    from nexa.orchestrate.distill_data import Answers, distill_data, preview_distill

    answers = Answers(prompts, **how)
    if dry_run:
        found = preview_distill(answers, choice, Path.cwd())
        out.show(found.to_json(), lambda: tell_preview(out, found))
        return
    made = distill_data(
        answers, choice, Path.cwd(), dataset_id=dataset_id, model=model, output=output
    )
    record = {
        "run_id": made.run_id,
        "dataset": made.dataset.label,
        "synthetic": made.synthetic.body.model_dump(mode="json"),
        "body": made.dataset.body.model_dump(mode="json"),
    }
    out.show(record, lambda: _tell(out, made))


def _tell(out: Output, made: Distilled) -> None:
    body = made.dataset.body
    out.say(made.dataset.label, bold=True)
    out.pairs(synthetic_pairs(made.synthetic.body))
    out.pairs({f"split {name}": f"{split.rows} rows" for name, split in body.splits.items()})
    out.pairs({f"dropped, {reason}": count for reason, count in body.dropped.items()})
    out.say(f"Look: nexa lineage {made.dataset.label}")
