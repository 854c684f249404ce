"""A user's own JSON Schema: checked itself before a row is, and closed to the network.

A `$ref` may name a file in the schema's folder or below, and nothing else: no address is fetched
and no file elsewhere is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from nexa.core.errors import DataError, nearest
from nexa.core.values import MAX_ROW_BYTES, parse

BASE = "file:///schemas/"  # what stands for the schema's folder: no such place is looked at
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def own_validator(path: Path) -> Validator:
    """What checks rows against the schema in a file.

    Raises:
        DataError: it cannot be read, is no JSON Schema, or refers to what is not in its folder.
    """
    schema = _read(path)
    kind = validator_for(schema, default=Draft202012Validator)
    root = BASE + path.name
    documents = {root: schema}
    waiting = [root]
    while waiting:
        uri = waiting.pop()
        _check(kind, documents[uri], path.parent / uri.removeprefix(BASE))
        for target in _targets(uri, documents[uri], path):
            if target not in documents:
                documents[target] = _read(_inside(target, path))
                waiting.append(target)
    registry = _registry(documents)
    _require_all(documents, registry, path)
    return kind({"$ref": root}, registry=registry)


def _targets(uri: str, schema: Any, path: Path) -> Iterator[str]:
    """The other documents that one refers to, by their addresses.

    Raises:
        DataError: one of them is not in the schema's folder.
    """
    named = set(_values(schema, ("$id",)))  # parts of this document with names of their own
    for reference in _values(schema, _REFERENCES):
        target = urldefrag(urljoin(uri, reference)).url
        if target == uri or urldefrag(reference).url in named:
            continue
        if not target.startswith(BASE):
            raise _refused(reference, path)
        yield target


def _inside(uri: str, path: Path) -> Path:
    """The file of an address, if it is in the schema's folder, through links too."""
    home = path.parent.resolve()
    found = (home / unquote(uri.removeprefix(BASE))).resolve()
    if not found.is_relative_to(home):
        raise _refused(uri.removeprefix(BASE), path)
    return found


def _registry(documents: dict[str, Any]) -> Registry[Any]:
    """Everything that a reference may mean: nothing else is looked for."""
    registry: Registry[Any] = Registry()
    for uri, schema in documents.items():
        # An $id of its own would turn its relative references into addresses.
        resource = Resource.from_contents({**schema, "$id": uri}, default_specification=DRAFT202012)
        registry = registry.with_resource(uri, resource)
        if isinstance(schema.get("$id"), str):
            registry = registry.with_resource(urldefrag(schema["$id"]).url, resource)
    return registry.crawl()


def _require_all(documents: dict[str, Any], registry: Registry[Any], path: Path) -> None:
    """Look every reference up before the first row needs it."""
    for uri, schema in documents.items():
        if len(list(_values(schema, ("$id",)))) > 1:
            continue  # its parts have bases of their own: looked up when they are needed
        resolver = registry.resolver(uri)
        for reference in _values(schema, _REFERENCES):
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                raise _refused(reference, path) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        beside = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        raise DataError(
            f"cannot read the schema {path}",
            found=error.strerror or str(error),
            fix=str(path.parent / near) if near else None,
        ) from error
    schema, problem = parse(raw[: MAX_ROW_BYTES + 1])
    if schema is None:
        raise DataError(f"{path} is no JSON Schema", found=problem)
    return schema


def _check(kind: Any, schema: Any, path: Path) -> None:
    """Refuse what the metaschema does, and says where."""
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        place = "".join(f"/{step}" for step in error.absolute_path) or "/"
        raise DataError(
            f"{path} is no JSON Schema", found=f"{place}: {error.message[:200]}"
        ) from error


def _values(schema: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """The texts that stand under some keys, wherever in a schema."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from (item[key] for key in keys if isinstance(item.get(key), str))
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _refused(reference: str, path: Path) -> DataError:
    return DataError(
        f"{path} refers to what is not in its folder",
        found=json.dumps(reference[:200], ensure_ascii=False),
        fix="put the schema that is meant beside it, and refer to it by its file's name",
    )
