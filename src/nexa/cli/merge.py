"""`nexa merge`: an adapter into its base, models into one, adapters into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexa.cli.export import (
    DTYPES,
    dry_run_option,
    output_option,
    shard_option,
    tell_exported,
    tell_preview,
)
from nexa.cli.format import size
from nexa.cli.publish import command_line
from nexa.cli.show import Output, output_options
from nexa.cli.sources import Source, base_source_option

METHODS = (
    *("linear", "task_arithmetic", "slerp", "ties"),
    *("dare_linear", "dare_ties", "passthrough"),
)
EXAMPLES = """\b
Examples:
  nexa merge ./adapter --base-model org/name --output ./merged
  nexa merge ./a ./b --method slerp --t 0.3 --output ./merged
  nexa merge ./a ./b --method ties --density 0.5 --base-model ./base --output ./merged
  nexa merge recipe.yaml --output ./merged --dry-run
"""


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between: `0.5,0.3`."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """One number or more."""
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers: 0.5,0.3", param, ctx)


NUMBER_OPTIONS = (
    click.option("--method", type=click.Choice(METHODS), help="How several models are merged."),
    click.option(
        "--weights",
        type=Numbers(),
        metavar="0.5,0.5",
        help="Of each model, or one for all.  [default: 1]",
    ),
    click.option(
        "--density",
        "densities",
        type=Numbers(),
        metavar="0.5",
        help="Share of each task vector that TIES and DARE keep: of each model, or one for all.  "
        "[default: 1]",
    ),
    click.option(
        "--t",
        type=float,
        metavar="0.5",
        help="Of SLERP: 0 is the first model (or the base), 1 the other.  [default: 0.5]",
    ),
    click.option(
        "--lambda",
        "scale",
        type=float,
        metavar="1.0",
        help="What the summed task vectors are multiplied with.  [default: 1]",
    ),
    click.option(
        "--normalize/--no-normalize",
        default=None,
        help="Divide by the sum of the weights.  [default: as the method is published]",
    ),
    click.option(
        "--tokenizer-from",
        "tokenizer",
        metavar="MODEL",
        help="Whose tokenizer and chat template the result gets.  [default: the base's or first's]",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Of DARE's masks.  [default: 0]"),
    click.option(
        "--rank",
        type=click.IntRange(min=1),
        help="Of adapters: the most a layer of the result may have.  [default: the sum of theirs]",
    ),
)


def number_options(function: Any) -> Any:
    """The options that say how models are merged."""
    for option in reversed(NUMBER_OPTIONS):
        function = option(function)
    return function


@click.command(epilog=EXAMPLES)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...|RECIPE.yaml")
@number_options
@click.option(
    "--base-model",
    metavar="MODEL",
    help="What task vectors are differences from; of adapters, what they belong on.  "
    "[default: of an adapter, what its adapter_config.json names]",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="What the result is stored in; the arithmetic is float32.  [default: bfloat16]",
)
@shard_option
@output_option
@click.option(
    "--name",
    metavar="NAME",
    help="What its record is called: export/NAME.  [default: of one, as it is; else as DIR]",
)
@base_source_option
@dry_run_option
@output_options
def merge(
    out: Output,
    models: tuple[str, ...],
    dry_run: bool,
    base_model: str | None,
    base_source: Source,
    **asked: Any,
) -> None:
    """Merge an adapter into its base, or several models or adapters into one.

    One MODEL (a run, checkpoint/NAME, a folder with an adapter) is merged into its base. Two or
    more are merged with each other by --method: whole models tensor by tensor, on --base-model
    where the method works on differences from it; adapters of one base into one adapter. A
    RECIPE.yaml has the keys of mergekit.
    """
    from nexa.lm.folder import begin_hashing
    from nexa.lm.resolve import likely_folders

    begin_hashing(likely_folders([*models, base_model]))  # while the other libraries are imported
    from nexa.orchestrate.merge import Numbers as How
    from nexa.orchestrate.merge import Request, is_single, preview
    from nexa.orchestrate.merge import merge as merge_models

    numbers = {name: asked.pop(name) for name in vars(How())}
    command = command_line(click.get_current_context())
    request = Request(
        models,
        numbers=How(**numbers),
        base_model=base_model,
        source=base_source,
        command=command,
        **asked,
    )
    if dry_run:
        seen = preview(request, Path.cwd())
        tell = tell_preview if is_single(request) else _tell_plan
        out.show(vars(seen), lambda: tell(out, seen))
        return
    made = merge_models(request, Path.cwd())
    out.show(made.to_json(), lambda: _tell_merged(out, made))


def _tell_plan(out: Output, seen: Any) -> None:
    out.say(f"{seen.form}: {', '.join(seen.models)}", bold=True)
    if seen.methods:
        out.table(["method", "tensors"], [list(row) for row in seen.methods.items()])
        out.say(f"about {size(seen.size_bytes)}, in {seen.folder}")
    for note in seen.notes:
        out.say(f"  note  {note}")
    out.say("Nothing was made.")


def _tell_merged(out: Output, made: Any) -> None:
    tell_exported(out, made)
    if made.artifact.kind == "export" and made.artifact.body.parents is not None:
        rows = "" if Path("config.yaml").exists() else " --data HELD_OUT_ROWS"
        out.say(f"  beside its parents: nexa eval {made.artifact.label} --parents{rows}")
