"""`nexa data`: prepare rows, see which tokens are trained, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexa.cli.lazy import LazyGroup
from nexa.cli.show import Output, output_options
from nexa.cli.sources import Source, base_source_option
from nexa.core.errors import UsageError

if TYPE_CHECKING:
    from nexa.core.records import Artifact, DatasetBody
    from nexa.data.mask import MaskedRow

# Filters that no dataset goes through unasked; a test holds it to the table of filters.
ON_REQUEST = ("secrets", "pii", "safety", "unphysical")

COMMANDS = {
    "Data": {
        "prepare": ("nexa.cli.data:prepare", "Prepare the data of config.yaml, and nothing more."),
        "augment": (
            "nexa.cli.data_augment:augment",
            "Have a teacher write rows for a dataset: a new version of it.",
        ),
        "distill": (
            "nexa.cli.data_distill:distill",
            "Have a teacher answer prompts: a dataset of its answers.",
        ),
        "merge": ("nexa.cli.data:merge", "Add rows to a dataset: a new version of it."),
        "validate": (
            "nexa.cli.data_validate:validate",
            "Check every row against its dataset type, or a schema of yours.",
        ),
        "schema": (
            "nexa.cli.data_validate:schema",
            "Print the JSON Schema of a dataset type.",
        ),
        "mask": ("nexa.cli.data:mask", "Show which text of a row is trained, in colour."),
        "list": ("nexa.cli.data_look:list_datasets", "Show the datasets of this project."),
        "show": ("nexa.cli.data_look:show", "Show a dataset: its facts, and rows of it."),
        "diff": (
            "nexa.cli.data_look:diff",
            "Show in what dataset B differs from dataset A: rows, splits, domains, drops.",
        ),
        "lineage": (
            "nexa.cli.data_look:lineage",
            "Show what a dataset, or a ROW of it, was made from.",
        ),
        "report": (
            "nexa.cli.data_look:report",
            "Write the page of a dataset: counts, lengths, domains, drops by reason, rows.",
        ),
    }
}
data = LazyGroup("data", COMMANDS, help="Prepare data and look at it.")


@click.command()
@click.argument("what", metavar="[CONFIG|DATA...]", nargs=-1)
@click.option("--model", metavar="MODEL", help="Without a config.yaml: whose tokens are counted.")
@click.option("--eval", "eval_path", metavar="DATA", help="With --model: the held-out rows.")
@click.option("--dataset", metavar="ID", help="What the dataset is called; else as its file.")
@click.option(
    "--filter",
    "filters",
    metavar="NAME",
    multiple=True,
    help=f"With --model, once or more: a filter beside the default ones: {', '.join(ON_REQUEST)}.",
)
@base_source_option
@output_options
def prepare(
    out: Output,
    what: tuple[str, ...],
    model: str | None,
    eval_path: str | None,
    dataset: str | None,
    filters: tuple[str, ...],
    base_source: Source,
) -> None:
    """Prepare the data of config.yaml, and nothing more.

    With --model it takes DATA instead, and needs no config.yaml: files, a folder, a pattern, an
    address or a Hub dataset.
    Filters and their options stand under data.filters in config.yaml.
    """
    from nexa.data.globs import joined

    named = joined(what or ("config.yaml",))
    made = _prepared(named, model, eval_path, base_source, dataset, filters)
    body = made.body

    def tell() -> None:
        out.say(f"{made.label}", bold=True)
        rows = {f"split {name}": f"{split.rows} rows" for name, split in body.splits.items()}
        dropped = {f"dropped, {reason}": count for reason, count in body.dropped.items()}
        out.pairs({"rows read": body.rows_read, **rows, **dropped})
        out.pairs({"tokens a row": body.lengths_told, "max_length": body.max_length})

    out.show(body.model_dump(mode="json"), tell)


def _prepared(
    what: str,
    model: str | None,
    eval_path: str | None,
    base_source: Source,
    dataset_id: str | None,
    filters: tuple[str, ...],
) -> Artifact[DatasetBody]:
    """The dataset of a config.yaml, or with a model that of named data."""
    from nexa.orchestrate.run import prepare_data, prepare_only

    if model is not None:
        return prepare_data(
            what,
            model,
            Path.cwd(),
            eval_path=eval_path,
            source=base_source,
            dataset_id=dataset_id,
            filters=filters,
        )
    if eval_path is not None or base_source != "auto" or filters:
        raise UsageError("--eval, --filter and --base-source go with --model", fix="--model MODEL")
    if Path(what).suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"{what} is no config.yaml, and as data it needs a model whose tokens are counted",
            fix=f"nexa data prepare {what} --model smollm2-135m",
        )
    return prepare_only(Path(what), dataset_id=dataset_id)


@click.command()
@click.argument("dataset")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--config",
    default="config.yaml",
    show_default=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The project's configuration: its model measures the rows.",
)
@output_options
def merge(out: Output, dataset: str, files: tuple[str, ...], config: Path) -> None:
    """Add rows to a dataset: a new version of it.

    The rows go through the filters that the dataset's own went through. Those that are there
    already stay in their splits.
    """
    from nexa.orchestrate.merge_data import merge_data

    merged = merge_data(dataset, files, config)
    record = {
        "dataset": merged.dataset.label,
        "parent": merged.parent.label,
        "added": merged.added,
        "why": merged.why,
        "body": merged.dataset.body.model_dump(mode="json"),
    }

    def tell() -> None:
        out.say(merged.dataset.label, bold=True)
        if merged.why:
            out.say(f"  nothing new: {merged.why}")
        else:
            out.pairs({"made from": merged.parent.label})
            out.pairs({f"added to {name}": f"{rows} rows" for name, rows in merged.added.items()})

    out.show(record, tell)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="MODEL", help="Whose chat template to use.")
@base_source_option
@click.option(
    "--rows", type=click.IntRange(min=1), default=3, show_default=True, help="How many to show."
)
@output_options
def mask(out: Output, path: Path, model: str, base_source: Source, rows: int) -> None:
    """Show which text of a row is trained, in colour."""
    from nexa.orchestrate.masks import masked_rows

    shown = masked_rows(path, model, source=base_source, rows=rows, project=Path.cwd())
    record = [
        {
            "origin": row.origin,
            "problem": row.problem,
            "spans": [[span.text, span.trained, span.tokens] for span in row.spans],
        }
        for row in shown
    ]
    out.show(record, lambda: _tell_masks(out, shown))


def _tell_masks(out: Output, rows: list[MaskedRow]) -> None:
    """Trained text in green between brackets, so that a pipe shows it too."""
    for row in rows:
        out.say(f"{row.origin}: {row.trained_tokens} of {row.tokens} tokens trained", bold=True)
        if row.problem:
            out.say(f"  {row.problem}", fg="red")
        for span in row.spans:
            if span.trained:
                out.say(f"[{span.text}]", fg="green", bold=True)
            else:
                out.say(span.text.rstrip("\n"), dim=True)
        out.say()
