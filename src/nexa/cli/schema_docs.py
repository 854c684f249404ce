"""The documents that are read off the code: the fields of every record, the files of the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import nexa
from nexa.core.manifest import PRIVATE, Cost, RunManifest
from nexa.core.records import KINDS, SCHEMA, Body

SOURCE = Path(nexa.__file__).parent

MANIFEST_INTRO = """\
# The run manifest

<!-- Written by `make docs` from nexa.core.manifest and nexa.core.records. -->

One JSON file a run: `runs/manifests/<run_id>.json` in the project (kept in git) and
`manifests/<run_id>.json` in durable storage. It is opened before any work, amended as facts
arrive and closed exactly once; each write is aside and renamed, so a killed run leaves a whole
manifest that says `running`. A published folder holds its public form, `nexa/manifest.json`: the
fields marked *no* stay on the machine, for they may name a host or a folder."""

RECORDS_INTRO = f"""\
## The records that a manifest points to

`outputs` gives each record of the run by its digest. All have one shape:
`{{schema: "{SCHEMA}", kind, name, version, body, files: {{name: sha256}}, inputs: {{role: digest}},
step: {{name, version}}, fingerprint}}`. `name` and `version` are labels (`dataset/materials@v2`);
the digest is the sha256 of the canonical JSON (RFC 8785) of everything else. `fingerprint` is the
digest of the recipe: step, version, spec and inputs. What `body` holds depends on the kind."""


def manifest_schema() -> str:
    """docs/RUN_MANIFEST_SCHEMA.md: every field of the manifest and of the sealed records."""
    fields = list(RunManifest.model_fields.items())
    labs = next(i for i, (name, _) in enumerate(fields) if name == "schema_")
    parts = [
        MANIFEST_INTRO,
        "## The lab's fields\n\nNexaCompute's, by the names and in the order of its specification.",
        _manifest_table(fields[:labs]),
        "## What Nexa adds",
        _manifest_table(fields[labs:]),
        f"## `cost`\n\n{_summary(Cost)}",
        _table(Cost),
        RECORDS_INTRO,
    ]
    for kind, body in KINDS.items():
        parts += [f"### `{kind}`\n\n{_summary(body)}", _table(body)]
    parts.append("### Parts of the above")
    for part in sorted(_parts(), key=lambda part: part.__name__):
        parts += [f"**{part.__name__}**: {_summary(part)}", _table(part)]
    return "\n\n".join(parts) + "\n"


def source_tree() -> str:
    """Every Python file of the package with the first sentence of its docstring, as Markdown."""
    lines = [f"src/nexa/  {_first_line(SOURCE / '__init__.py')}"]
    lines += _tree(SOURCE, "  ")
    return "```\n" + "\n".join(lines) + "\n```"


def source_packages() -> str:
    """The layers alone, each with the first sentence of its docstring, as Markdown."""
    packages = sorted(SOURCE.glob("*/__init__.py"))
    lines = [f"src/nexa/{path.parent.name + '/':<13} {_first_line(path)}" for path in packages]
    return "```\n" + "\n".join(lines) + "\n```"


def with_part(text: str, name: str, content: str) -> str:
    """`text` with what stands between its two comments `begin NAME` and `end NAME` replaced.

    Raises:
        ValueError: the text has no such part.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"there is no part {name!r}")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def _manifest_table(fields: list[tuple[str, FieldInfo]]) -> str:
    rows = ["| field | type | meaning | published |", "|---|---|---|---|"]
    for name, field in fields:
        shown = "no" if name in PRIVATE else "yes"
        rows.append(f"| `{field.alias or name}` | {_type(field)} | {_meaning(field)} | {shown} |")
    return "\n".join(rows)


def _table(body: type[BaseModel]) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in body.model_fields.items():
        rows.append(f"| `{name}` | {_type(field)} | {_meaning(field)} |")
    return "\n".join(rows)


def _type(field: FieldInfo) -> str:
    return _name(field.annotation).replace("|", "\\|")


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _name(annotation: Any) -> str:
    """A type as a reader of JSON would say it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " | ".join(_name(part) for part in inner)
    if origin is list:
        return f"list of {_name(inner[0])}"
    if origin is dict:
        return f"{{name: {_name(inner[1])}}}"
    simple = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any JSON"}
    return "null" if annotation is NoneType else simple.get(annotation) or annotation.__name__


def _parts() -> set[type[Body]]:
    """The bodies that only occur inside others."""

    def below(annotation: Any) -> Iterator[type[Body]]:
        if isinstance(annotation, type) and issubclass(annotation, Body):
            yield annotation
            for field in annotation.model_fields.values():
                yield from below(field.annotation)
        for inner in get_args(annotation):
            yield from below(inner)

    found = {part for body in KINDS.values() for part in below(body)}
    return found - set(KINDS.values())


def _summary(body: type[BaseModel]) -> str:
    return " ".join((body.__doc__ or "").split())


def _tree(folder: Path, indent: str) -> Iterator[str]:
    """A package's files in two columns, then its packages, each with its own."""
    files = sorted(p for p in folder.glob("*.py") if p.name != "__init__.py")
    packages = sorted(p.parent for p in folder.glob("*/__init__.py"))
    for path in files:
        yield f"{indent}{path.name:<{28 - len(indent)}} {_first_line(path)}"
    for package in packages:
        name = f"{package.name}/"
        yield f"{indent}{name:<{28 - len(indent)}} {_first_line(package / '__init__.py')}"
        yield from _tree(package, indent + "  ")


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
