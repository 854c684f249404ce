"""`nexa publish` (alias `push`) and `nexa verify`: a model with its evidence, and its proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexa.cli.show import Output, output_options


@click.command()
@click.argument("model_dir", default="./output", type=click.Path(path_type=Path))
@click.option("--repo", metavar="OWNER/NAME", help="What to publish it as.")
@click.option("--hub", metavar="local|FOLDER", help="Where to publish.  [default: local]")
@click.option(
    "--private", is_flag=True, default=None, help="For a Hub that knows private repositories."
)
@click.option("--model-card/--no-model-card", default=None, help="Write README.md.")
@click.option(
    "--merge-adapters/--no-merge-adapters", default=None, help="Publish merged weights too."
)
@click.option("--licence", "--license", metavar="SPDX", help="The licence the card names.")
@click.option("--allow", multiple=True, metavar="FINDING", help="Publish in spite of a finding.")
@output_options
def publish(
    out: Output, model_dir: Path, licence: str | None, allow: tuple[str, ...], **flags: Any
) -> None:
    """Publish the trained model with its card and the proof of its numbers.

    What is not said here is taken from the publish section of the project's config.yaml.
    """
    from nexa.orchestrate.publish import publish_folder

    published = publish_folder(model_dir, Path.cwd(), flags, allow=allow, licence=licence)
    body = published.body

    def tell() -> None:
        out.say(f"Published: {body.location}", fg="green", bold=True)
        out.say(f"  root digest {body.root}")
        out.say(f"  check it with: nexa verify {body.location} --expect {body.root[:16]}")

    out.show(body.model_dump(mode="json"), tell)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--expect", metavar="DIGEST", help="The root digest that publish printed.")
@output_options
def verify(out: Output, folder: Path, expect: str | None) -> None:
    """Check a published folder: every byte, every record, every number of the card."""
    from nexa.publish.verify import verify_folder

    checks = verify_folder(folder, expect=expect)

    def tell() -> None:
        for check in checks:
            out.say(f"  ok  {check.name}")
        out.say(f"{folder} is whole: nothing was changed since it was published.", fg="green")
        out.say("This proves integrity, not who published it.")

    out.show({"folder": str(folder), "checks": [check.name for check in checks]}, tell)
