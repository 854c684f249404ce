"""`nexa data augment`: rows that a teacher writes, into a new version of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from nexa.cli.show import Output, output_options
from nexa.cli.teaching import synthetic_pairs, teacher_options, tell_preview

if TYPE_CHECKING:
    from nexa.orchestrate.augment import Augmented
    from nexa.orchestrate.teaching import Choice

METHODS = ("self_instruct", "paraphrase", "question_from_document", "critique_and_revise")
MEANINGS = (
    "self_instruct: new instructions by the example of rows. paraphrase: rows in other words. "
    "question_from_document: questions about --documents. critique_and_revise: better answers."
)


@click.command()
@click.argument("dataset")
@teacher_options
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="self_instruct",
    show_default=True,
    help=MEANINGS,
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many to ask for; those that pass the filters are added.",
)
@click.option(
    "--documents",
    multiple=True,
    metavar="FILE|FOLDER",
    help="What question_from_document asks about; may be given more than once.",
)
@click.option(
    "--part",
    type=click.Choice(["prompt", "answer", "both"]),
    default="prompt",
    show_default=True,
    help="What paraphrase puts in other words.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows, which variation.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, max=2),
    metavar="T",
    help="How far new rows vary; left out: 0.7, of a model on this machine 0.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Of one answer; a longer one is cut off and gives no row.",
)
@click.option(
    "--config",
    default="config.yaml",
    show_default=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The project's configuration: its model measures the rows.",
)
@click.option("--dry-run", is_flag=True, help="Rows, requests, tokens, dollars; send nothing.")
@output_options
def augment(
    out: Output,
    choice: Choice,
    dataset: str,
    method: Literal["self_instruct", "paraphrase", "question_from_document", "critique_and_revise"],
    rows: int,
    documents: tuple[str, ...],
    part: Literal["prompt", "answer", "both"],
    seed: int,
    temperature: float | None,
    max_new_tokens: int,
    config: Path,
    dry_run: bool,
) -> None:
    """Have a teacher write rows for a dataset: a new version of it.

    The teacher is shown training rows only. What it writes goes through the filters that the
    dataset's own rows went through. The same command goes on where it was stopped.
    """
    from nexa.orchestrate.augment import Wanted, augment_data, preview_augment

    wanted = Wanted(
        method,
        rows,
        seed=seed,
        part=part,
        temperature=temperature,
        documents=documents,
        max_new_tokens=max_new_tokens,
    )
    if dry_run:
        found = preview_augment(dataset, wanted, choice, config.parent)
        out.show(found.to_json(), lambda: tell_preview(out, found))
        return
    made = augment_data(dataset, wanted, choice, config)
    record = {
        "run_id": made.run_id,
        "dataset": made.merged.dataset.label,
        "parent": made.merged.parent.label,
        "added": made.merged.added,
        "why": made.merged.why,
        "synthetic": made.synthetic.body.model_dump(mode="json"),
    }
    out.show(record, lambda: _tell(out, made))


def _tell(out: Output, made: Augmented) -> None:
    merged = made.merged
    out.say(merged.dataset.label, bold=True)
    out.pairs(synthetic_pairs(made.synthetic.body))
    if merged.why:
        out.say(f"  nothing new: {merged.why}")
    else:
        out.pairs({"made from": merged.parent.label})
        out.pairs({f"added to {name}": f"{rows} rows" for name, rows in merged.added.items()})
    out.say(f"Look: nexa lineage {merged.dataset.label}")
