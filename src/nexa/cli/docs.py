"""Write the documents that are generated from the code, or check that they are fresh.

`make docs` writes them, `make check` fails when one of them would change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from nexa.cli import safety_docs
from nexa.cli.cost_docs import COST_PARTS
from nexa.cli.data_docs import DATA_FORMAT_PARTS
from nexa.cli.eval_docs import EVAL_PARTS
from nexa.cli.lazy import LazyGroup
from nexa.cli.main import INTERRUPTED, UNEXPECTED, app
from nexa.cli.schema_docs import manifest_schema, source_packages, source_tree, with_part
from nexa.cli.storage_docs import STORAGE_PARTS
from nexa.cli.teacher_docs import teacher_table
from nexa.core import errors
from nexa.core.store import write_atomic

WIDTH = 100


def command_reference() -> str:
    """docs/cli.md: the help of every command, and every exit code."""
    parts = [
        "# Commands",
        "<!-- Written by `make docs` from the commands themselves. -->",
        "Every command takes `--json` (one object on stdout, errors too), `-v` and `-q`. "
        "Results go to stdout, progress and notes to stderr.",
    ]
    for context in contexts():
        level = "##" if context.parent is None or context.parent.parent is None else "###"
        parts.append(f"{level} {context.command_path}")
        parts.append(f"```\n{context.get_help()}\n```")
    parts += ["## Exit codes", _exit_codes()]
    return "\n\n".join(parts) + "\n"


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "docs/cli.md": command_reference,
    "docs/RUN_MANIFEST_SCHEMA.md": manifest_schema,
}
# Parts of documents that people write: what stands between `begin NAME` and `end NAME`.
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"source packages": source_packages},
    "docs/ARCHITECTURE_v1.md": {"source tree": source_tree},
    "docs/COST_MODEL.md": COST_PARTS,
    "docs/DATA_FORMAT.md": DATA_FORMAT_PARTS,
    "docs/EVAL_FRAMEWORK.md": EVAL_PARTS,
    "docs/STORAGE_POLICY.md": STORAGE_PARTS,
    "docs/SAFETY_POLICY.md": {
        "token sources": safety_docs.token_source_table,
        "child variables": safety_docs.child_variables,
        "credentials": safety_docs.credential_table,
        "refusals": safety_docs.refusal_table,
        "hazards": safety_docs.hazard_table,
        "hazard rules": safety_docs.rules_version,
        "quantities": safety_docs.quantity_list,
    },
    "docs/TEACHERS.md": {"teachers": teacher_table},
}


def main(argv: list[str] | None = None) -> int:
    """Write every document, or with --check only compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nexa.cli.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    options = parser.parse_args(argv)
    stale = [
        (name, text)
        for name, text in _texts(options.root)
        if not _is_fresh(options.root / name, text)
    ]
    for name, text in stale:
        if options.check:
            click.echo(f"{name} is stale\n  try    make docs", err=True)
        else:
            write_atomic(options.root / name, text.encode())
            click.echo(f"wrote {name}")
    return 1 if stale and options.check else 0


def _texts(root: Path) -> Iterator[tuple[str, str]]:
    """Every document's path below `root`, and what it should hold."""
    for name, make in DOCUMENTS.items():
        yield name, make()
    for name, parts in PARTS.items():
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8")
            for part, make in parts.items():
                text = with_part(text, part, make())
            yield name, text


def contexts() -> Iterator[click.Context]:
    """A context of every command, groups before their members, in the tables' order."""
    top = click.Context(app, info_name="nexa", terminal_width=WIDTH, **app.context_settings)
    yield from _below(top)


def _below(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if isinstance(group, LazyGroup):
        for name in group.list_commands(context):
            yield from _below(click.Context(group.load(name), info_name=name, parent=context))


def _exit_codes() -> str:
    rows = ["| code | error | when |", "|---|---|---|", "| 0 | | done |"]
    kinds = [kind for kind in vars(errors).values() if "exit_code" in getattr(kind, "__dict__", {})]
    for kind in sorted(kinds, key=lambda kind: int(kind.exit_code)):
        meaning = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")
        rows.append(f"| {kind.exit_code} | `{kind.__name__}` | {meaning} |")
    rows.append(f"| {UNEXPECTED} | | a mistake of nexa's own: please report it |")
    rows.append(f"| {INTERRUPTED} | | stopped by Ctrl-C |")
    rows.append("| 143 | | stopped by SIGTERM |")
    return "\n".join(rows)


def _is_fresh(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
