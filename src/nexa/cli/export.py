"""`nexa export`: a model in the form that others load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexa.cli.format import size
from nexa.cli.publish import command_line
from nexa.cli.show import Output, output_options
from nexa.cli.sources import Source, base_source_option

DTYPES = ("bfloat16", "float16", "float32")
FORMATS = ("safetensors", "gguf")
EXAMPLES = """\b
Examples:
  nexa export latest --format gguf --quantization q4_k_m --output ./gguf
  nexa export ./output --dtype float16 --max-shard-size 2GB --output ./half
  nexa export ./adapter --base-model org/name --output ./merged
"""


class Size(click.ParamType[int]):
    """An amount of bytes as people write it: `4GB`, `800 MB`, `5.5GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes; at least one."""
        from nexa.core.units import size_bytes

        try:
            found = int(size_bytes(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if found < 1:
            self.fail(f"{value!r} is no size", param, ctx)
        return found


shard_option = click.option(
    "--max-shard-size", "shard_bytes", type=Size(), metavar="4GB", help="The largest weight file."
)
output_option = click.option(
    "--output",
    "-o",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to fill; new, empty, or left by this command before.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be made, and its size; make nothing."
)


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    help="File format.  [default: gguf with --quantization, else safetensors]",
)
@click.option(
    "--quantization",
    metavar="f16|q8_0|q4_k_m|...",
    help="What a GGUF file is stored in; a name that does not exist lists them all.  "
    "[default: q8_0]",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="What safetensors are stored in.  [default: as the model is; merged: bfloat16]",
)
@shard_option
@output_option
@click.option(
    "--name", metavar="NAME", help="What its record is called: export/NAME.  [default: the model's]"
)
@click.option(
    "--base-model",
    metavar="MODEL",
    help="What an adapter belongs on.  [default: what its adapter_config.json names]",
)
@base_source_option
@dry_run_option
@output_options
def export(out: Output, model: str, dry_run: bool, base_source: Source, **asked: Any) -> None:
    """Write a model as safetensors or GGUF, and prove that nothing broke.

    MODEL is a run's id or `latest`, checkpoint/NAME, export/NAME, a folder (./output, any model,
    an adapter), a .gguf file, a Hub id, or an alias such as smollm2-135m. A checkpoint or an
    adapter is merged into its base first.

    DIR gets the weights with all they need (config and tokenizer, or an Ollama Modelfile), a card
    README.md, the proof parity.json, and export.json, which tells where it came from.
    """
    from nexa.lm.folder import begin_hashing
    from nexa.lm.resolve import likely_folders

    begin_hashing(likely_folders([model]))  # while the other libraries are imported
    from nexa.orchestrate.export import Request, preview
    from nexa.orchestrate.export import export as export_model

    command = command_line(click.get_current_context())
    if asked["quantization"]:
        asked["quantization"] = asked["quantization"].lower()
    request = Request(model=model, source=base_source, command=command, **asked)
    if dry_run:
        seen = preview(request, Path.cwd())
        out.show(vars(seen), lambda: tell_preview(out, seen))
        return
    made = export_model(request, Path.cwd())
    out.show(made.to_json(), lambda: tell_exported(out, made))


def tell_preview(out: Output, seen: Any) -> None:
    """What would be made."""
    out.say(f"{seen.form}, about {size(seen.size_bytes)}, in {seen.folder}", bold=True)
    out.say(f"  model  {seen.model}")
    out.say(f"  steps  {', '.join(seen.steps) or 'none: it is sealed in this form already'}")
    out.say("Nothing was made.")


def tell_exported(out: Output, made: Any) -> None:
    """What there is now, and how it is looked at again."""
    body, label = made.artifact.body, made.artifact.label
    out.say(f"Exported: {made.folder}", fg="green", bold=True)
    out.say(f"  record  {label}{', made before' if made.reused else ''}")
    out.say(f"  files   {len(made.sizes)}, {size(sum(made.sizes.values()))}")
    passed = len((body.parity or {}).get("checks", []))
    out.say(f"  proof   {passed} checks passed: parity.json")
    out.say(f"  where it came from: nexa lineage {label}")
