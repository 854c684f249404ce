"""`nexa runs list|show` and `nexa lineage`: what was done here, and what grew from what."""

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
        "show": ("nexa.cli.runs:show", "Show one run's manifest."),
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
    """Show one run's manifest."""
    from nexa.core.manifest import find_manifest
    from nexa.core.tiers import Tiers

    manifest = find_manifest(Tiers.of(Path.cwd()).manifests, run)
    record = manifest.model_dump(mode="json", by_alias=True)
    out.show(record, lambda: out.pairs(dict(_flat(record))))


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
