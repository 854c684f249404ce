"""`nexa parity`: whether an export still is the model it came from, asked again."""

from __future__ import annotations

from pathlib import Path

import click

from nexa.cli.show import Output, output_options
from nexa.core.errors import ParityError

EXAMPLES = """\b
Examples:
  nexa parity ./gguf/model-q8_0.gguf ./output
  nexa parity ./merged export/NAME
"""


@click.command(epilog=EXAMPLES)
@click.argument("export")
@click.argument("source")
@output_options
def parity(out: Output, export: str, source: str) -> None:
    """Compare an export with the model it was made from, check by check.

    EXPORT is a model folder or a .gguf file, made by any tool; SOURCE is the model. Both are named
    as in nexa export. Tokenizer, template, every tensor and what both models compute are compared
    anew. A check that fails ends with exit code 8.
    """
    from nexa.orchestrate.parity import compare

    found = compare(export, source, Path.cwd())
    rows = [
        [check.name, "ok" if check.passed else "FAILED", str(check.value), str(check.limit)]
        for check in found.checks
    ]
    out.show(found.to_json(), lambda: out.table(["check", "", "value", "limit"], rows))
    if out.as_json and not found.passed:
        # The object says what failed: another one with the error would be one too many.
        click.get_current_context().exit(ParityError.exit_code)
    found.require()
