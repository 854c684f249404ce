"""`nexa data list|show|diff|lineage|report`: what datasets there are, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.cli.show import Cell
    from nexa.data.look import Difference, Shown
    from nexa.orchestrate.datasets import Version

DIGEST_LENGTH = 12
TEXT_LIMIT = 600  # characters of a message that `show` shows


@click.command("list")
@output_options
def list_datasets(out: Output) -> None:
    """Show the datasets of this project."""
    from nexa.orchestrate.datasets import versions

    found = versions(Path.cwd())
    rows: list[list[Cell]] = [
        [
            v.dataset.label,
            v.dataset.body.rows_read,
            v.rows,
            v.parent or "-",
            v.dataset.digest[:DIGEST_LENGTH],
            str(v.entry.get("notes") or ""),
        ]
        for v in found
    ]
    columns = ["dataset", "rows read", "rows kept", "made from", "digest", "notes"]
    out.show(
        [{**v.dataset.to_json(), "parent": v.parent} for v in found],
        lambda: out.table(columns, rows) if rows else out.say("no datasets yet"),
    )


@click.command()
@click.argument("dataset")
@click.option("--split", metavar="SPLIT", help="Rows of this split only.")
@click.option("--domain", metavar="DOMAIN", help="Rows of this domain only.")
@click.option("--text", metavar="TEXT", help="Rows with this in a message, in any case.")
@click.option("--id", "row_id", metavar="ID", help="The row with this id.")
@click.option("--dropped", is_flag=True, help="The rows that were left out, instead.")
@click.option("--rows", type=click.IntRange(min=0), default=3, show_default=True, help="How many.")
@output_options
def show(
    out: Output,
    dataset: str,
    split: str | None,
    domain: str | None,
    text: str | None,
    row_id: str | None,
    dropped: bool,
    rows: int,
) -> None:
    """Show a dataset: its facts, and rows of it.

    DATASET is a name for its newest version, or NAME@vN.
    """
    from itertools import islice

    from nexa.core.tiers import Tiers
    from nexa.data import look
    from nexa.orchestrate.datasets import version

    found = version(dataset, Path.cwd())
    store = Tiers.of(Path.cwd()).store
    left_out = list(islice(look.rejects(found.dataset, store), rows)) if dropped else []
    shown: list[Shown] = []
    if row_id is not None:
        shown = [look.row(found.dataset, row_id, store)]
    elif not dropped:
        every = look.rows(found.dataset, store, split=split, domain=domain, text=text)
        shown = list(islice(every, rows))
    record = {
        **found.dataset.to_json(),
        "parent": found.parent,
        "rows": [{"split": item.split, **item.row} for item in shown],
        "rejects": left_out,
    }

    def tell() -> None:
        _tell_facts(out, found)
        for item in shown:
            _tell_row(out, item)
        for reject in left_out:
            out.say(f"\n{reject['file']}:{reject['line']}: {reject['reason']}", bold=True)
            out.say(f"  {reject['detail']}")

    out.show(record, tell)


@click.command()
@click.argument("a")
@click.argument("b")
@output_options
def diff(out: Output, a: str, b: str) -> None:
    """Show in what dataset B differs from dataset A: rows, splits, domains, drops."""
    from dataclasses import asdict

    from nexa.core.tiers import Tiers
    from nexa.data.look import difference
    from nexa.orchestrate.datasets import version

    one, other = version(a, Path.cwd()).dataset, version(b, Path.cwd()).dataset
    found = difference(one, other, Tiers.of(Path.cwd()).store)
    record = {"a": one.label, "b": other.label, **asdict(found)}
    out.show(record, lambda: _tell_difference(out, one.label, other.label, found))


@click.command()
@click.argument("dataset")
@click.argument("row", required=False)
@output_options
def lineage(out: Output, dataset: str, row: str | None) -> None:
    """Show what a dataset, or a ROW of it, was made from.

    Of a dataset every version back to the files, of a row the line of the file that it was.
    """
    from nexa.core.tiers import Tiers
    from nexa.data.look import source_of
    from nexa.orchestrate.datasets import first_with, history

    project = Path.cwd()
    chain = history(dataset, project)
    record: dict[str, Any] = {"versions": [_version_json(version) for version in chain]}
    if row is not None:
        source = source_of(chain[0].dataset, row, Tiers.of(project).store)
        record["row"] = {
            "row_id": row,
            "split": source.split,
            "origin": source.origin,
            "line_sha256": source.sha256,
            "file_sha256": source.file_sha256,
            "first_version": first_with(row, chain, project).dataset.label,
        }

    def tell() -> None:
        if row is not None:
            out.pairs(record["row"], indent=0)
            return
        for depth, version in enumerate(chain):
            _tell_version(out, version, 2 * depth)

    out.show(record, tell)


@click.command()
@click.argument("dataset")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; else NAME-vN.html here.",
)
@output_options
def report(out: Output, dataset: str, output: Path | None) -> None:
    """Write the page of a dataset: counts, lengths, domains, drops by reason, rows."""
    from nexa.orchestrate import datasets

    found = datasets.version(dataset, Path.cwd()).dataset
    path = output or Path(f"{found.name}-{found.version}.html")
    datasets.report(f"{found.name}@{found.version}", Path.cwd(), path)
    record = {"dataset": found.label, "path": str(path)}
    out.show(record, lambda: out.say(f"Saved: {path}"))


def _tell_facts(out: Output, version: Version) -> None:
    dataset = version.dataset
    body = dataset.body
    out.say(dataset.label, bold=True)
    out.pairs(
        {
            "rows read": body.rows_read,
            **{f"split {name}": f"{split.rows} rows" for name, split in body.splits.items()},
            **{f"dropped, {reason}": count for reason, count in body.dropped.items()},
            **{f"domain {name}": f"{count} rows" for name, count in body.domains.items()},
            "tokens a row": body.lengths_told,
            "max_length": body.max_length,
            "made from": version.parent or ", ".join(sorted(body.sources)),
            "digest": dataset.digest,
        }
    )


def _tell_row(out: Output, shown: Shown) -> None:
    domain = f", {shown.row['domain']}" if shown.row["domain"] else ""
    out.say(f"\n{shown.row_id}  ({shown.split}{domain}, {shown.row['origin']})", bold=True)
    for message in shown.row["messages"]:
        content = message["content"]
        cut = content if len(content) <= TEXT_LIMIT else f"{content[:TEXT_LIMIT]} ..."
        out.say(f"  {message['role']}: {cut}")


def _tell_difference(out: Output, one: str, other: str, found: Difference) -> None:
    out.say(f"{one} -> {other}", bold=True)
    changes = {
        "rows added": found.added,
        "rows removed": found.removed,
        "rows changed": found.changed,
        "rows in another split": found.moved,
    }
    told = {
        name: f"{change.count:,}" + (f"  {', '.join(change.samples)}" if change.samples else "")
        for name, change in changes.items()
    }
    out.pairs({"rows in both, equal": f"{found.same:,}", **told})
    for what, pairs in (("domain", found.domains), ("dropped", found.dropped)):
        out.pairs({f"{what} {name}": f"{a:,} -> {b:,}" for name, (a, b) in pairs.items()})


def _tell_version(out: Output, version: Version, indent: int) -> None:
    dataset = version.dataset
    notes = f"  {version.entry['notes']}" if version.entry.get("notes") else ""
    digest = dataset.digest[:DIGEST_LENGTH]
    step = dataset.step.get("name")
    out.say(f"{'':{indent}}{dataset.label}  {version.rows} rows  [{step}]  {digest}{notes}")
    if version.parent is None:
        for name, sha256 in sorted(dataset.body.sources.items()):
            out.say(f"{'':{indent + 2}}{name}  {sha256[:DIGEST_LENGTH]}")


def _version_json(version: Version) -> dict[str, Any]:
    dataset = version.dataset
    return {
        "dataset": dataset.label,
        "digest": dataset.digest,
        "parent": version.parent,
        "rows": version.rows,
        "step": dataset.step.get("name"),
        "sources": dict(dataset.body.sources),
        "created": version.entry.get("created"),
        "notes": version.entry.get("notes") or "",
    }
