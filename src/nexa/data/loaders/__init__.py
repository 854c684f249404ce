"""Files in, lines out: one loader a file type, by the file's suffix.

A loader takes a path and the name that lines are to carry, and yields `rows.Line`s. It never
skips one: a line that cannot be read comes with its problem. A package adds a loader with an
entry point in the group `nexa.loader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nexa.core.plugins import Registry
from nexa.data.loaders.jsonl import read_jsonl
from nexa.data.rows import Line

Loader = Callable[[Path, str], Iterator[Line]]

LOADERS: Registry[Loader] = Registry("loader", {"jsonl": read_jsonl, "ndjson": read_jsonl})


def loader_for(path: Path) -> Loader:
    """The loader of a file's suffix; a file of another suffix is read as JSON lines."""
    suffix = path.suffix.lstrip(".").lower()
    return LOADERS[suffix] if suffix in LOADERS.names() else read_jsonl
