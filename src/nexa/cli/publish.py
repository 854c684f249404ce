"""`nexa publish` (alias `push`): a model with its evidence."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nexa.cli.show import Output, output_options


@click.command()
@click.argument("model_dir", default="./output")
@click.option("--repo", metavar="OWNER/NAME", help="What to publish it as.")
@click.option(
    "--hub",
    metavar="local|FOLDER|URL",
    help="Where to publish.  [default: the Hugging Face Hub, or HF_ENDPOINT]",
)
@click.option("--private", is_flag=True, default=None, help="Make a new repository private.")
@click.option("--model-card/--no-model-card", default=None, help="Write README.md.")
@click.option(
    "--merge-adapters/--no-merge-adapters", default=None, help="Publish merged weights too."
)
@click.option(
    "--format",
    type=click.Choice(["safetensors", "gguf"]),
    help="Of the published weights.  [default: safetensors]",
)
@click.option(
    "--quantization",
    multiple=True,
    metavar="NAME",
    help="Of gguf: f16, q8_0, q4_k_m and so on; may be repeated.  [default: q8_0]",
)
@click.option("--base-model", metavar="MODEL", help="Of an adapter or full weights from elsewhere.")
@click.option(
    "--eval-data",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Held-out rows: evaluates a model that has no report.",
)
@click.option("--licence", "--license", metavar="SPDX", help="The licence the card names.")
@click.option("--allow", multiple=True, metavar="FINDING", help="Publish in spite of a finding.")
@click.option("--dry-run", is_flag=True, help="Show what would be published; write nothing.")
@output_options
def publish(
    out: Output,
    model_dir: str,
    dry_run: bool,
    licence: str | None,
    allow: tuple[str, ...],
    base_model: str | None,
    eval_data: Path | None,
    **flags: Any,
) -> None:
    """Publish a model with its card and the proof of its numbers.

    MODEL_DIR is what a run left (its folder or the run's id), a checkpoint, a PEFT adapter or full
    weights. What is not said here is taken from the publish section of the project's config.yaml.
    """
    from nexa.orchestrate.publishing.publish import publish as publish_model
    from nexa.orchestrate.publishing.publish import request_of

    request, tiers = request_of(
        model_dir,
        Path.cwd(),
        flags,
        allow=allow,
        licence=licence,
        base_model=base_model,
        eval_data=eval_data,
        command=command_line(click.get_current_context()),
    )
    if dry_run:
        from nexa.orchestrate.publishing.preview import preview

        seen = preview(request, tiers)
        out.show(seen.to_json(), lambda: _tell_preview(out, seen))
        return
    body = publish_model(request, tiers).body
    out.show(body.model_dump(mode="json"), lambda: _tell_published(out, body))


def _tell_published(out: Output, body: Any) -> None:
    out.say(f"Published: {body.location}", fg="green", bold=True)
    out.say(f"  root digest {body.root}")
    folder = body.location
    if "://" in folder:
        folder = body.repo.rpartition("/")[2]
        out.say(f"  download it with: hf download {body.repo} --local-dir {folder}")
    out.say(f"  check it with: nexa verify {folder} --expect {body.root[:16]}")


def _tell_preview(out: Output, seen: Any) -> None:
    visibility = "private" if seen.private else "public"
    out.say(f"{seen.kind}, to {seen.location} ({visibility} if it is new)", bold=True)
    for name, size in seen.files.items():
        about = "  (about; not made yet)" if name in seen.estimated else ""
        out.say(f"  {size / 1e6:10.3f} MB  {name}{about}")
    for note in seen.notes:
        out.say(f"  note     {note}")
    for finding in seen.findings:
        first, *more = finding.splitlines()
        out.say(f"  finding  {first}", fg="red")
        for line in more:
            out.say(f"           {line}", fg="red")
    ends = "This would be refused." if seen.findings else "This would be published."
    out.say(f"{ends} Nothing was written or uploaded.")


def command_line(context: click.Context) -> str:
    """The command as it was given, to be run again; what was left to defaults is left out."""
    words = ["nexa", str(context.info_name)]
    for parameter in context.command.get_params(context):
        if context.get_parameter_source(str(parameter.name)) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params.get(str(parameter.name))
        if isinstance(parameter, click.Argument):
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        elif isinstance(parameter, click.Option) and parameter.multiple:
            for item in value or ():
                words += [parameter.opts[0], str(item)]
        else:  # several numbers of one option have commas between
            told = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [parameter.opts[0], told]
    return shlex.join(words)
