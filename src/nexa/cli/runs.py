"""`nexa runs list|show|diff` and `nexa lineage`: what was done here, and what grew from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from nexa.cli.lazy import LazyGroup
from nexa.cli.show import Output, output_options

COMMANDS = {
    "Runs": {
        "list": ("nexa.cli.runs:list_runs", "Show every run of this project."),
        "show": ("nexa.cli.runs:show", "Show one run: its manifest, and how its training went."),
        "diff": ("nexa.cli.runs:diff", "Show in what two runs differ."),
    }
}
runs = LazyGroup("runs", COMMANDS, help="Show the runs of this project.")


@click.command("list")
@output_options
def list_runs(out: Output) -> None:
    """Show every run of this project."""
    from nexa.core.manifest import list_manifests
    from nexa.core.tiers import Tiers

    found = list_manifests(Tiers.of(Path.cwd()).manifests)
    rows = [
        [
            m.run_id,
            m.run_type,
            m.status,
            m.student_model,
            m.dataset_id,
            m.verdict,
            f"{m.cost_estimate_usd_total:.4f}",
        ]
        for m in found
    ]
    columns = ["run", "type", "status", "model", "dataset", "verdict", "cost, USD"]
    records = [m.model_dump(mode="json", by_alias=True) for m in found]
    out.show(records, lambda: out.table(columns, rows) if rows else out.say("no runs yet"))


@click.command()
@click.argument("run", default="latest")
@output_options
def show(out: Output, run: str) -> None:
    """Show one run: its manifest, and how its training went.

    What begins with `training.` is read off the trained checkpoint; it is not there for a run
    that trained nothing, or whose store is on another machine.
    """
    record = _record(run)
    out.show(record, lambda: out.pairs(dict(_flat(record))))


@click.command()
@click.argument("a")
@click.argument("b", default="latest")
@output_options
def diff(out: Output, a: str, b: str) -> None:
    """Show in what two runs differ.

    A and B are runs, told as in nexa runs show; every fact that is not the same in both is a line.
    """
    one, other = dict(_flat(_record(a))), dict(_flat(_record(b)))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    record = {name: {"a": one.get(name), "b": other.get(name)} for name in names}
    rows = [[name, one.get(name), other.get(name)] for name in names]
    columns = ["fact", str(one["run_id"]), str(other["run_id"])]
    out.show(record, lambda: out.table(columns, rows) if rows else out.say("the same run"))


def _record(run: str) -> dict[str, Any]:
    """A run's manifest as data, with what its checkpoint tells of the training."""
    from nexa.core.manifest import find_manifest
    from nexa.core.tiers import Tiers
    from nexa.orchestrate.run_facts import training_facts

    tiers = Tiers.of(Path.cwd())
    manifest = find_manifest(tiers.manifests, run)
    facts = training_facts(manifest, tiers)
    record = manifest.model_dump(mode="json", by_alias=True)
    return record | ({"training": facts} if facts else {})


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Names and values, those of a field that has fields of its own as `cost.tokens`."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            if value:
                yield f"{before}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{before}{name}", str(value) if isinstance(value, bool) else value


@click.command()
@click.argument("what", default="latest", metavar="[RUN|KIND/NAME@VERSION]")
@output_options
def lineage(out: Output, what: str) -> None:
    """Show what a run's report, or any artifact, grew from."""
    from nexa.core.lineage import walk
    from nexa.core.tiers import Tiers
    from nexa.orchestrate.reports import find_artifact

    tiers = Tiers.of(Path.cwd())
    nodes = list(walk(find_artifact(what, tiers), tiers.store))
    record = [
        {"depth": n.depth, "role": n.role, "label": n.label, "step": n.step, "digest": n.digest}
        for n in nodes
    ]

    def tell() -> None:
        for n in nodes:
            role = f"{n.role}: " if n.role else ""
            out.say(f"{'  ' * n.depth}{role}{n.label}  [{n.step}]  {n.digest[:12]}")

    out.show(record, tell)
